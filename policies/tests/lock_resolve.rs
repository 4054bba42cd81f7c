//! Whoever ends an open intent gets the same answer, and none before the upload is gone.

use policies::lock::{Found, IntentFacts, Resolution, UploadFact, resolve};

fn told(upload: UploadFact, found: Found<&str>, catalog: Option<&str>) -> Resolution {
    resolve(&IntentFacts {
        upload,
        found,
        expects: "new",
        catalog,
    })
}

#[test]
fn nothing_is_decided_before_the_upload_is_gone_and_the_object_is_read() {
    for found in [
        Found::Nothing,
        Found::Content("new"),
        Found::Content("old"),
        Found::Unknown,
    ] {
        for catalog in [None, Some("old"), Some("new")] {
            assert_eq!(
                told(UploadFact::NotKnownGone, found, catalog),
                Resolution::AskAgain
            );
            assert_eq!(
                told(UploadFact::Gone, Found::Unknown, catalog),
                Resolution::AskAgain
            );
        }
    }
}

#[test]
fn the_store_decides() {
    use Found::{Content, Nothing};
    use Resolution::{Abort, Commit, Freeze};
    for (found, catalog, answer) in [
        (Content("new"), None, Commit),
        (Content("new"), Some("old"), Commit),
        (Content("new"), Some("new"), Commit),
        (Nothing, None, Abort),
        (Content("old"), Some("old"), Abort),
        // nobody wrote this through the gateway, or somebody removed it
        (Content("old"), None, Freeze),
        (Content("other"), Some("old"), Freeze),
        (Nothing, Some("old"), Freeze),
    ] {
        assert_eq!(
            told(UploadFact::Gone, found, catalog),
            answer,
            "{found:?} in the store, {catalog:?} in the catalog"
        );
    }
}
