//! Journal numbers are never used twice, also when the state database is lost, rolled back, restored or cloned.
//!
//! The store holds, create-only, the highest number that a database may use (`.snapgate/sequences/<repository>/`),
//! reserved a million ahead, so a write pays nothing for it. Invariants: a database uses no number above what the
//! store has for it; whoever reads the catalog anew from the store goes on above the highest limit there. The
//! order: note the claim in the database, create it in the store, use it. A claim that was under way when
//! the process ended may have been used by the database that this one is an older copy of: it is passed over. A
//! limit that the database knows nothing of means that it is older than the store, or not the only one: doubt.

use policies::key::{ObjectKey, RESERVED};
use policies::lock::{Freeze, Lock};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::state::{Claim, Sequences};
use crate::stores::{self, own};

/// Numbers reserved at a time; the next ones are when half of them are used.
const BLOCK: u64 = 1_000_000;

/// When this is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// Before anything listens.
    Start,
    Running,
    /// The repository is in another store now.
    Moved,
    /// The catalog is about to be read anew from the store.
    Rebuild,
}

impl Door {
    /// Sees to it that the journal has numbers to go on with.
    pub(super) async fn reserve_numbers(
        &self,
        open: &OpenRepository,
        moment: Moment,
    ) -> Result<(), Error> {
        // The store first: every limit of this database's making is noted there before.
        let highest = match moment {
            Moment::Running => 0,
            Moment::Start | Moment::Moved | Moment::Rebuild => self.highest_limit(open).await?,
        };
        let known = self.numbers(open).await?;
        let skip = match moment {
            Moment::Running => 0,
            Moment::Start => match self.numbers_at_start(open, &known, highest).await? {
                Some(skip) => skip,
                None => return Ok(()),
            },
            // What the store had before is another's, whoever wrote there.
            Moment::Moved if highest > known.reserved.unwrap_or(0) => highest,
            Moment::Moved => 0,
            Moment::Rebuild => highest.max(known.used),
        };
        let moved = moment == Moment::Moved;
        let left = known.reserved.unwrap_or(0).saturating_sub(known.used);
        if !moved && skip <= known.used && known.claim.is_none() && left >= BLOCK / 2 {
            return Ok(());
        }
        let above = known.used.max(known.reserved.unwrap_or(0)).max(skip);
        self.claim_numbers(open, above, skip).await
    }

    async fn numbers(&self, open: &OpenRepository) -> Result<Sequences, Error> {
        self.state
            .sequences(open.id)
            .await
            .map_err(|e| state_failed("look up its journal numbers", &e))
    }

    /// What the journal must go on above; None = the store knows of numbers that this database does not.
    async fn numbers_at_start(
        &self,
        open: &OpenRepository,
        known: &Sequences,
        highest: u64,
    ) -> Result<Option<u64>, Error> {
        let claimed = known.claim.as_ref().map_or(0, |claim| claim.limit);
        if highest <= known.reserved.unwrap_or(0) {
            return Ok(Some(0));
        }
        let never_used = *known == Sequences::default()
            && matches!(open.gate.told().lock, Lock::Vacant { epoch } if epoch.0 == 0);
        if never_used || highest == claimed {
            return Ok(Some(highest));
        }
        tracing::error!(repository = %open.name, highest, "frozen: the store has journal numbers that this state database does not know");
        self.freeze_for(open, Freeze::OtherGateway)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        Ok(None)
    }

    async fn claim_numbers(
        &self,
        open: &OpenRepository,
        above: u64,
        skip: u64,
    ) -> Result<(), Error> {
        let mut wanted = Claim {
            limit: above + BLOCK,
            token: crate::random::text(22),
        };
        loop {
            let claim = self
                .state
                .claim_sequences(open.id, wanted.clone())
                .await
                .map_err(|e| state_failed("note a claim on journal numbers", &e))?;
            let ours = self.create_limit(open, &claim).await?;
            // Numbers of a claim that is not ours, or that lies below what must be passed over, are not used.
            let useful = ours && claim.limit > above;
            let limit = if useful { claim.limit } else { above };
            self.state
                .reserve_sequences(
                    open.id,
                    Claim {
                        limit,
                        ..claim.clone()
                    },
                    skip,
                )
                .await
                .map_err(|e| state_failed("note its journal numbers", &e))?;
            if useful {
                return Ok(());
            }
            wanted.limit = wanted.limit.max(claim.limit) + BLOCK;
            wanted.token = crate::random::text(22);
        }
    }

    /// True = the store has this very claim now.
    async fn create_limit(&self, open: &OpenRepository, claim: &Claim) -> Result<bool, Error> {
        let name = format!("{}{:020}", prefix(open), claim.limit);
        let bytes = claim.token.clone().into_bytes();
        let store = open.store.as_ref();
        match own::create(store, &open.upkeep(), &name, bytes).await {
            Ok(()) => Ok(true),
            Err(stores::Error::Exists | stores::Error::Unknown) => {
                let key = own::key(&name).map_err(|e| store_failed("name a claim", &e))?;
                let there = own::read(store, &key)
                    .await
                    .map_err(|e| store_failed("read a claim on journal numbers", &e))?;
                match there {
                    Some(token) => Ok(token == claim.token.as_bytes()),
                    None => Err(Error::SlowDown(
                        "The store did not take the gateway's record; try again.".into(),
                    )),
                }
            }
            Err(e) => Err(store_failed("reserve journal numbers", &e)),
        }
    }

    async fn highest_limit(&self, open: &OpenRepository) -> Result<u64, Error> {
        let names = own::names(open.store.as_ref(), &prefix(open))
            .await
            .map_err(|e| store_failed("list its journal numbers", &e))?;
        Ok(names.iter().filter_map(limit_of).max().unwrap_or(0))
    }
}

fn prefix(open: &OpenRepository) -> String {
    format!("{RESERVED}sequences/{}/", open.name)
}

fn limit_of(name: &ObjectKey) -> Option<u64> {
    name.as_str().rsplit('/').next()?.parse().ok()
}
