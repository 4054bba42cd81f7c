//! From a plan to a running gateway, and back down.
//!
//! Start order: state database, stores and their probes, repositories, recovery of what was left open, then
//! listen. A store that cannot be reached freezes its repositories; everything else serves.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use policies::identity::StoreName;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::appliers::Appliers;
use crate::config::{Lookup, Plan, Source, StatePlan, StorePlan, StoreUrl, embedded, secret};
use crate::frontend::{self, Credentials, Frontend};
use crate::keys::Keys;
use crate::mirror::{self, Mirrors};
use crate::repository::{Door, OpenRepository, incarnation, keeper, nodes, reaper, sweep};
use crate::state::{AuditEntry, RepositoryIdentity, State, postgres, sqlite};
use crate::stores::directory::Directory;
use crate::stores::metrics::Measured;
use crate::stores::s3::S3Store;
use crate::stores::{self, Store};
use crate::{telemetry, tls};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT.
pub async fn run(lookup: &Lookup, plan: Plan) -> Result<(), Failure> {
    let metrics = telemetry::init_metrics()?;
    let s3 = listen(plan.s3.listen).await?;
    let admin_listener = listen(plan.admin.listen).await?;
    let (s3_address, admin_address) = (s3.local_addr()?, admin_listener.local_addr()?);
    let state: Arc<dyn State> = open_state(&plan).await?;
    let stores = open_stores(&plan).await?;
    let door = Arc::new(open_door(&plan, &state, &stores).await?);
    door.recover().await?;
    let watchers = watch_for_other_gateways(&plan, &door, &stores);

    let stop = CancellationToken::new();
    let mut reapers = spawn_reapers(&door);
    reapers.push(tokio::spawn(nodes::run(Arc::clone(&door))));
    let sweepers = spawn_sweepers(&door, &plan, &stores);
    let mirrors = Arc::new(Mirrors::default());
    let appliers = Arc::new(Appliers::new(
        Arc::clone(&door),
        Arc::clone(&mirrors),
        plan.mirrors.clone(),
    ));
    door.await_witness(appliers.clone());
    appliers.look().await;
    reapers.push(tokio::spawn(Arc::clone(&appliers).run()));
    let lookout = tokio::spawn(mirror::lookout::run(Arc::clone(&mirrors)));
    let keys = Arc::new(Keys::new(plan.keys.clone()));
    let credentials: Arc<dyn Credentials> = keys.clone();
    let frontend = Frontend::new(
        Arc::clone(&door),
        front_settings(&plan, &state).await?,
        credentials,
    );
    let admin = Admin::new(
        Arc::clone(&door),
        Arc::clone(&mirrors),
        appliers,
        metrics,
        &plan.admin,
    )?;
    admin.resume().await;
    announce(&plan, s3_address, admin_address);
    let serving = tokio::spawn(frontend.serve(s3, stop.clone().cancelled_owned()));
    let administering = tokio::spawn(admin::serve(admin, admin_listener, stop.clone()));
    until_told_to_stop(lookup, &keys, &mirrors, &state).await?;
    tracing::info!("stopping: requests under way have 30 s to finish");
    stop.cancel();
    serving.await??;
    administering.await?;
    lookout.abort();
    for task in reapers.into_iter().chain(watchers).chain(sweepers) {
        task.abort();
    }
    mirrors.stop_all().await;
    Ok(())
}

async fn front_settings(
    plan: &Plan,
    state: &Arc<dyn State>,
) -> Result<frontend::Settings, Failure> {
    Ok(frontend::Settings {
        domain: plan.s3.domain.clone(),
        region: plan.s3.region.clone(),
        allow_unsigned_payload: plan.s3.allow_unsigned_payload,
        tls: plan
            .s3
            .tls
            .as_ref()
            .map(|tls| tls::server(tls, None))
            .transpose()?,
        token_secret: token_secret(plan, state).await?,
        limits: plan.s3.limits.clone(),
    })
}

/// A database of this process's own, or one that it shares with other gateways.
async fn open_state(plan: &Plan) -> Result<Arc<dyn State>, Failure> {
    Ok(match &plan.state {
        StatePlan::Sqlite(file) => Arc::new(sqlite::Database::open(file)?),
        StatePlan::Postgres(settings) => {
            let name = format!("{} pid {}", plan.s3.listen, std::process::id());
            Arc::new(postgres::Database::open(settings, &name).await?)
        }
    })
}

/// Seals continuation tokens of listings, so that any node continues a listing and a restart does not break it.
async fn token_secret(plan: &Plan, state: &Arc<dyn State>) -> Result<[u8; 32], Failure> {
    match &plan.state {
        StatePlan::Sqlite(file) => secret_beside(&file.with_extension("list-tokens")),
        StatePlan::Postgres(_) => Ok(state
            .shared_secret()
            .await?
            .ok_or("the state database keeps no secret for its nodes")?),
    }
}

/// Made once, kept in a file beside the state database.
fn secret_beside(file: &Path) -> Result<[u8; 32], Failure> {
    if !file.exists() {
        secret::write_new(file, &hex::encode(rand::random::<[u8; 32]>()))?;
    }
    let text = std::fs::read_to_string(file)?;
    let mut secret = [0; 32];
    hex::decode_to_slice(text.trim(), &mut secret).map_err(|e| {
        format!(
            "'{}' is not what this program wrote ({e}); delete it",
            file.display()
        )
    })?;
    Ok(secret)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}; choose another with listen, --s3-listen or --admin-listen").into())
}

/// Every store of the plan, probed. Unreachable ones are missing from the map.
pub async fn open_stores(plan: &Plan) -> Result<HashMap<StoreName, Arc<dyn Store>>, Failure> {
    let mut open: HashMap<StoreName, Arc<dyn Store>> = HashMap::new();
    for (name, store) in &plan.stores {
        match open_store(store).await {
            Ok(opened) => {
                let can = opened.capabilities();
                let fenced = can.create_only && can.abort_beats_complete;
                if !fenced && !store.single_gateway {
                    return Err(format!(
                        "store '{name}' has no create-only writes, or completes aborted uploads: two gateways could not be told apart; \
                         if this is the only one, say single_gateway = true in [stores.{name}]"
                    )
                    .into());
                }
                open.insert(name.clone(), Arc::new(Measured::new(name.as_str(), opened)));
            }
            Err(e) => {
                tracing::error!(store = %name, cause = %e, "the store cannot be reached: its repositories are frozen");
            }
        }
    }
    Ok(open)
}

async fn open_store(store: &StorePlan) -> stores::Result<Arc<dyn Store>> {
    Ok(match &store.url {
        StoreUrl::Directory(path) => Arc::new(Directory::open(path.clone()).await?),
        StoreUrl::S3(settings) => {
            let store =
                S3Store::open(settings).map_err(|e| stores::Error::Failed(e.to_string().into()))?;
            store.probe().await?;
            Arc::new(store)
        }
    })
}

async fn open_door(
    plan: &Plan,
    state: &Arc<dyn State>,
    stores: &HashMap<StoreName, Arc<dyn Store>>,
) -> Result<Door, Failure> {
    let mut repositories = Vec::new();
    for (name, repository) in &plan.repositories {
        let identity = RepositoryIdentity {
            name: name.clone(),
            bucket: repository.bucket.clone(),
            base_path: repository.base_path.clone(),
            store: repository.store.clone(),
        };
        let row = state.open_repository(&identity).await?;
        let mut repository = repository.clone();
        if row.store != repository.store {
            tracing::warn!(repository = %name, configured = %repository.store, store = %row.store, "it was promoted: its primary is not the store that the configuration names");
            repository.store = row.store.clone();
        }
        let store = stores
            .get(&repository.store)
            .cloned()
            .unwrap_or_else(|| Arc::new(stores::unreachable::Unreachable));
        let keeps_time = repositories.is_empty();
        let open = OpenRepository::new(name.clone(), &row, repository, store, keeps_time);
        repositories.push(Arc::new(open));
    }
    let door = Door::new(plan.layout.clone(), Arc::clone(state), repositories);
    let known = plan.stores.keys().map(|name| {
        let store = stores.get(name).cloned();
        (name.clone(), store.unwrap_or_else(|| late(plan, name)))
    });
    Ok(door.with_stores(known.collect()))
}

/// Watches every store for later starts of other gateways; a promotion may bring a repository to any of them.
fn watch_for_other_gateways(
    plan: &Plan,
    door: &Arc<Door>,
    stores: &HashMap<StoreName, Arc<dyn Store>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let watched = |store: &StoreName| {
        let every = plan.stores.get(store).map(|store| store.look_every);
        let every = every.unwrap_or(incarnation::INTERVAL);
        tokio::spawn(incarnation::watch(Arc::clone(door), store.clone(), every))
    };
    stores.keys().map(watched).collect()
}

/// A store that did not answer at start; mirrors wait for it.
fn late(plan: &Plan, name: &StoreName) -> Arc<dyn Store> {
    let Some(store) = plan.stores.get(name).cloned() else {
        return Arc::new(stores::unreachable::Unreachable);
    };
    let measured = name.clone();
    Arc::new(stores::late::Late::new(Box::new(move || {
        let (store, name) = (store.clone(), measured.clone());
        Box::pin(async move {
            let opened = open_store(&store).await?;
            Ok(Arc::new(Measured::new(name.as_str(), opened)) as Arc<dyn Store>)
        })
    })))
}

fn spawn_reapers(door: &Arc<Door>) -> Vec<tokio::task::JoinHandle<()>> {
    door.repositories()
        .keys()
        .flat_map(|name| {
            [
                tokio::spawn(reaper::run(Arc::clone(door), name.clone())),
                tokio::spawn(keeper::run(Arc::clone(door), name.clone())),
            ]
        })
        .collect()
}

fn spawn_sweepers(
    door: &Arc<Door>,
    plan: &Plan,
    stores: &HashMap<StoreName, Arc<dyn Store>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = vec![tokio::spawn(sweep::watch_roots(Arc::clone(door)))];
    for (name, store) in stores {
        let pace = plan.stores.get(name).and_then(|store| store.sweep);
        if let Some(pace) = pace {
            let (door, name, store) = (Arc::clone(door), name.clone(), Arc::clone(store));
            tasks.push(tokio::spawn(sweep::run(door, name, store, pace)));
        }
    }
    tasks
}

/// Where things are, for people on standard output.
fn announce(plan: &Plan, s3: SocketAddr, admin: SocketAddr) {
    let scheme = |tls: bool| if tls { "https" } else { "http" };
    println!("S3 endpoint:  {}://{s3}", scheme(plan.s3.tls.is_some()));
    println!(
        "admin API:    {}://{admin} (token in {})",
        scheme(plan.admin.tls.is_some()),
        plan.admin.token_file.display()
    );
    if let Source::Embedded(data) = &plan.source {
        println!("data:         {}", data.display());
        println!("{}", embedded::registration(plan, s3));
    }
    tracing::info!(%s3, %admin, version = env!("CARGO_PKG_VERSION"), "serving");
}

fn reloaded() -> AuditEntry {
    AuditEntry {
        at_ms: telemetry::clock::now_ms(),
        principal: "operator".into(),
        action: "reload".into(),
        repository: None,
        epoch: None,
        detail: serde_json::json!({ "what": "the clusters' keys and the mirrors' limits" }),
    }
}

/// SIGHUP reloads the clusters' keys and the mirrors' limits; a bad file keeps the old ones.
async fn until_told_to_stop(
    lookup: &Lookup,
    keys: &Keys,
    mirrors: &Mirrors,
    state: &Arc<dyn State>,
) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = reload.recv() => match crate::config::load(lookup) {
                Ok(plan) => {
                    state.append_audit(reloaded()).await?;
                    keys.replace(plan.keys);
                    mirrors.reload(&plan.mirrors);
                    tracing::info!("reloaded the clusters' keys and the mirrors' limits");
                }
                Err(e) => tracing::error!(cause = %e, "the new configuration is wrong; the old one stays in force"),
            },
        }
    }
}
