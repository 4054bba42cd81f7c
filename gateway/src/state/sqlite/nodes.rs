//! One process owns the file: there are no other nodes, and every open intent is its own.

use async_trait::async_trait;
use policies::identity::StoreName;
use policies::lock::Permit;

use super::{Database, State};
use crate::state::{
    Intent, IntentId, NewIntent, Nodes, Object, Removal, RepositoryId, Result, WriteError,
};

#[async_trait]
impl Nodes for Database {
    fn shared(&self) -> bool {
        false
    }

    async fn beat(&self) -> Result<()> {
        Ok(())
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

    async fn announce_incarnation(&self, _store: &StoreName, _token: &str) -> Result<()> {
        Ok(())
    }

    async fn knows_incarnation(&self, _store: &StoreName, _token: &str) -> Result<bool> {
        Ok(false)
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
