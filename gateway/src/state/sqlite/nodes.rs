//! One process owns the file: there are no other nodes, and every open intent is its own. What outlives the process
//! is how its starts called themselves in a store: a copy of the file does not know what the original's next
//! start says there, nor the original what the copy's says.

use async_trait::async_trait;
use policies::identity::StoreName;
use policies::lock::Permit;

#[cfg(test)]
use super::simulated::mutant;
use super::{Database, State, unrefusable};
use crate::state::{
    Duty, Intent, IntentId, NewIntent, Nodes, Object, Removal, RepositoryId, Result, WriteError,
};

#[async_trait]
impl Nodes for Database {
    fn shared(&self) -> bool {
        false
    }

    fn name(&self) -> Option<&str> {
        None
    }

    async fn beat(&self) -> Result<()> {
        Ok(())
    }

    async fn take_duty(&self, work: &str) -> Result<Option<Box<dyn Duty>>> {
        let taken = self.duties.take(work);
        Ok(taken.map(|taken| Box::new(taken) as Box<dyn Duty>))
    }

    async fn abandoned_intents(&self, repository: RepositoryId) -> Result<Vec<Intent>> {
        self.intents(repository).await
    }

    async fn orphaned_intents(&self, _repository: RepositoryId) -> Result<u64> {
        Ok(0)
    }

    async fn leads(&self) -> Result<bool> {
        Ok(true)
    }

    async fn others_alive(&self) -> Result<usize> {
        Ok(0)
    }

    async fn shared_secret(&self) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    async fn announce_incarnation(&self, store: &StoreName, token: &str) -> Result<()> {
        let (store, token) = (store.as_str().to_owned(), token.to_owned());
        self.writer
            .write(move |tx| {
                tx.db
                    .prepare_cached(
                        "INSERT OR IGNORE INTO incarnations (store, token) VALUES (?1, ?2)",
                    )?
                    .execute((store, token))?;
                Ok(())
            })
            .await
            .map_err(unrefusable)
    }

    async fn knows_incarnation(&self, store: &StoreName, token: &str) -> Result<bool> {
        self.read(|db| {
            let known = db
                .prepare_cached("SELECT 1 FROM incarnations WHERE store = ?1 AND token = ?2")?
                .exists((store.as_str(), token))?;
            Ok(known)
        })
    }

    async fn has_stood(&self, store: &StoreName) -> Result<bool> {
        #[cfg(test)]
        if mutant::leaves_out(mutant::LeftOut::StrangerCheck) {
            return Ok(false);
        }
        self.read(|db| {
            let known = db
                .prepare_cached("SELECT 1 FROM incarnations WHERE store = ?1")?
                .exists([store.as_str()])?;
            Ok(known)
        })
    }

    async fn open_judged(
        &self,
        permit: &Permit,
        intent: NewIntent,
        _judged: u64,
    ) -> Result<IntentId, WriteError> {
        self.open_intent(permit, intent).await
    }

    async fn remove_judged(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
        _judged: u64,
    ) -> Result<Vec<Option<Object>>, WriteError> {
        self.remove(permit, removals).await
    }
}
