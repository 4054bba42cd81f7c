//! From a plan to a running gateway, and back down.
//!
//! Start order: state database, stores and their probes, repositories, recovery of what was left open, then
//! listen. A store that cannot be reached freezes its repositories; everything else serves.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use policies::identity::{Repository, StoreName};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::appliers::Appliers;
use crate::config::{Lookup, Plan, Source, StatePlan, StorePlan, StoreUrl, embedded, secret};
use crate::frontend::{self, Credentials, Frontend};
use crate::keys::Keys;
use crate::mirror::{self, Mirrors};
use crate::reload::{self, Certificates, Reload};
use crate::repository::{
    Door, OpenRepository, incarnation, keeper, nodes, reaper, recovery, sweep,
};
use crate::state::{State, postgres, sqlite};
use crate::stores::directory::Directory;
use crate::stores::metrics::Measured;
use crate::stores::s3::S3Store;
use crate::stores::{self, Store};
use crate::telemetry;
use crate::tls::Shown;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT.
pub async fn run(lookup: &Lookup, plan: Plan) -> Result<(), Failure> {
    let metrics = telemetry::init_metrics()?;
    let s3 = listen(plan.s3.listen).await?;
    let admin_listener = listen(plan.admin.listen).await?;
    let (s3_address, admin_address) = (s3.local_addr()?, admin_listener.local_addr()?);
    let state: Arc<dyn State> = open_state(&plan).await?;
    let stores = with_late_ones(&plan, open_stores(&plan).await?.open);
    let door = Arc::new(open_door(&plan, &state, &stores).await?);
    door.recover().await?;
    let watchers = watch_stores(&plan, &door);

    let stop = CancellationToken::new();
    let mut reapers = spawn_reapers(&door);
    reapers.push(tokio::spawn(nodes::run(Arc::clone(&door))));
    let sweepers = spawn_sweepers(&door, &plan, &stores);
    let mirrors = Arc::new(Mirrors::default());
    let appliers = Arc::new(Appliers::new(
        Arc::clone(&door),
        Arc::clone(&mirrors),
        plan.mirrors.clone(),
        homes(&plan),
    ));
    door.await_witness(appliers.clone());
    appliers.look().await;
    reapers.push(tokio::spawn(Arc::clone(&appliers).run()));
    let lookout = tokio::spawn(mirror::lookout::run(Arc::clone(&mirrors)));
    let certificates = Certificates::open(&plan)?;
    let keys = Arc::new(Keys::new(plan.keys.clone()));
    let credentials: Arc<dyn Credentials> = keys.clone();
    let frontend = Frontend::new(
        Arc::clone(&door),
        front_settings(&plan, &state, certificates.s3.clone()).await?,
        credentials,
    );
    let admin = Admin::new(
        Arc::clone(&door),
        Arc::clone(&mirrors),
        Arc::clone(&appliers),
        metrics,
        &plan.admin,
        certificates.admin.clone(),
    );
    admin.resume().await;
    announce(&plan, s3_address, admin_address);
    let serving = tokio::spawn(frontend.serve(s3, stop.clone().cancelled_owned()));
    let administering = tokio::spawn(admin::serve(admin, admin_listener, stop.clone()));
    let reload = Reload {
        lookup: lookup.clone(),
        keys,
        certificates,
        appliers,
        state,
    };
    until_told_to_stop(&reload).await?;
    tracing::info!("stopping: requests under way have 30 s to finish");
    stop.cancel();
    serving.await??;
    administering.await?;
    lookout.abort();
    for task in reapers.into_iter().chain(watchers).chain(sweepers) {
        task.abort();
    }
    mirrors.stop_all().await;
    keeper::finish(&door).await;
    Ok(())
}

/// The store of each repository, as the configuration has it.
fn homes(plan: &Plan) -> BTreeMap<Repository, StoreName> {
    let named = plan.repositories.iter();
    named
        .map(|(name, repository)| (name.clone(), repository.store.clone()))
        .collect()
}

async fn front_settings(
    plan: &Plan,
    state: &Arc<dyn State>,
    tls: Option<Shown>,
) -> Result<frontend::Settings, Failure> {
    Ok(frontend::Settings {
        domain: plan.s3.domain.clone(),
        region: plan.s3.region.clone(),
        allow_unsigned_payload: plan.s3.allow_unsigned_payload,
        tls,
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

/// The stores of a plan.
#[derive(Default)]
pub struct Stores {
    /// Those that answer, probed.
    pub open: HashMap<StoreName, Arc<dyn Store>>,
    /// Why the others cannot be used now.
    pub away: BTreeMap<StoreName, stores::Error>,
}

pub async fn open_stores(plan: &Plan) -> Result<Stores, Failure> {
    let mut found = Stores::default();
    for (name, store) in &plan.stores {
        match open_store(name, store).await {
            Ok(opened) => {
                if let Some(why) = unfenced(name, store, opened.as_ref()) {
                    return Err(why.into());
                }
                found.open.insert(name.clone(), opened);
            }
            Err(e) => {
                tracing::error!(store = %name, cause = %e, "the store cannot be reached: its repositories are frozen until it can");
                found.away.insert(name.clone(), e);
            }
        }
    }
    Ok(found)
}

async fn open_store(name: &StoreName, store: &StorePlan) -> stores::Result<Arc<dyn Store>> {
    let opened: Arc<dyn Store> = match &store.url {
        StoreUrl::Directory(path) => Arc::new(Directory::open(path.clone()).await?),
        StoreUrl::S3(settings) => {
            let store =
                S3Store::open(settings).map_err(|e| stores::Error::Failed(e.to_string().into()))?;
            store.probe().await?;
            Arc::new(store)
        }
    };
    Ok(Arc::new(Measured::new(name.as_str(), opened)))
}

/// Why a store must not be used as it is configured.
fn unfenced(name: &StoreName, plan: &StorePlan, opened: &dyn Store) -> Option<String> {
    let can = opened.capabilities();
    let fenced = can.create_only && can.abort_beats_complete;
    (!fenced && !plan.single_gateway).then(|| {
        format!(
            "store '{name}' has no create-only writes, or completes aborted uploads: two gateways could not be told apart; \
             if this is the only one, say single_gateway = true in [stores.{name}]"
        )
    })
}

/// Every store of the plan; one that did not answer is opened when it does.
fn with_late_ones(
    plan: &Plan,
    mut opened: HashMap<StoreName, Arc<dyn Store>>,
) -> HashMap<StoreName, Arc<dyn Store>> {
    for (name, store) in &plan.stores {
        opened
            .entry(name.clone())
            .or_insert_with(|| late(name, store));
    }
    opened
}

fn late(name: &StoreName, plan: &StorePlan) -> Arc<dyn Store> {
    let (name, plan) = (name.clone(), plan.clone());
    Arc::new(stores::late::Late::new(Box::new(move || {
        let (name, plan) = (name.clone(), plan.clone());
        Box::pin(async move {
            let opened = open_store(&name, &plan).await?;
            match unfenced(&name, &plan, opened.as_ref()) {
                Some(why) => Err(stores::Error::Failed(why.into())),
                None => Ok(opened),
            }
        })
    })))
}

async fn open_door(
    plan: &Plan,
    state: &Arc<dyn State>,
    stores: &HashMap<StoreName, Arc<dyn Store>>,
) -> Result<Door, Failure> {
    let mut repositories = Vec::new();
    for (name, repository) in &plan.repositories {
        let row = state.open_repository(&repository.identity(name)).await?;
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
    Ok(door.with_stores(stores.clone()))
}

/// Watches every store for later starts of other gateways, and for its return; a promotion may bring a repository to
/// any of them.
fn watch_stores(plan: &Plan, door: &Arc<Door>) -> Vec<tokio::task::JoinHandle<()>> {
    let watched = |(name, store): (&StoreName, &StorePlan)| {
        let every = store.look_every;
        [
            tokio::spawn(incarnation::watch(Arc::clone(door), name.clone(), every)),
            tokio::spawn(recovery::wait_for(Arc::clone(door), name.clone())),
        ]
    };
    plan.stores.iter().flat_map(watched).collect()
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

/// Returns at SIGTERM or SIGINT; SIGHUP reloads.
async fn until_told_to_stop(reload: &Reload) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => match reload.take().await {
                Ok(()) => tracing::info!("reloaded {}", reload::WHAT),
                Err(e) => tracing::error!(cause = %e, "the new configuration is wrong; the old one stays in force"),
            },
        }
    }
}
