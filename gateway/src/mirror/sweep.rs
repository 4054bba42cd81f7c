//! Uploads that a process which died, or was relieved, left hidden on a target.
//!
//! Decides which of them may be ended: those of the mirrored repository, once its epoch on the target is ours, for
//! whoever wrote the target before is fenced. That ends what a fenced applier has begun and not published; what it
//! begins later it gives up at its look at the anchors. A store tells the key of an upload, or (a directory) whose it is.

use policies::identity::Epoch;

use super::Link;
use crate::stores::{self, own};

impl Link {
    /// Ends uploads of this repository. The epoch is ours, and no transfer is under way.
    pub async fn sweep_uploads(&self, epoch: Epoch) -> stores::Result<()> {
        let permit = self.permit(epoch);
        let mark = own::mark(&self.source.name);
        for (key, upload) in self.target.uploads().await? {
            if self.source.class(&key).is_some() || upload.0.ends_with(&mark) {
                self.target.abort(&permit, &key, &upload).await?;
            }
        }
        Ok(())
    }
}
