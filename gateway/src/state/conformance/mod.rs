//! What every implementation of [`State`] promises, as tests that run against each of them.
//!
//! An implementation brings a maker of fresh databases: `conformance!(fresh)` in its tests makes one test of
//! every promise.

use std::sync::Arc;

use policies::identity::{Bucket, Cluster, Epoch, Handover, Repository, StoreName};
use policies::key::{ObjectKey, Writing};
use policies::lock::{Lock, Mode, Permit, Request, Verdict, admit};

use super::*;
use crate::stores::Identity;

pub mod audit;
pub mod catalog;
pub mod digests;
pub mod duties;
pub mod intents;
pub mod lineage;
pub mod listing;
pub mod lock;
pub mod mirrors;
pub mod model;
pub mod positions;
pub mod restore_points;
pub mod retention;
pub mod takeover;
pub mod uploads;
pub mod warnings;

macro_rules! conformance {
    ($fresh:path) => {
        $crate::state::conformance::promises! { $fresh;
            lock: a_repository_is_found_again_and_never_moves,
            lock: a_lock_moves_only_from_the_version_that_was_read,
            lock: every_state_of_a_lock_is_kept,
            lock: an_epoch_never_goes_back,
            lock: a_permit_is_good_only_while_its_holder_holds_its_epoch,
            lock: a_free_permit_is_good_while_nobody_else_holds_the_lock,
            lock: a_settling_permit_is_good_up_to_its_epoch,
            lock: a_permit_is_good_for_its_own_repository_only,
            audit: the_audit_chain_links_each_record_to_the_one_before,
            audit: a_lock_that_does_not_move_leaves_no_record,
            audit: the_history_of_writers_is_replayed_from_its_records,
            audit: a_grant_while_another_holds_is_told_from_its_records,
            catalog: a_recorded_object_is_seen_whole,
            catalog: a_taken_key_is_answered_with_the_object_that_is_there,
            catalog: a_replacement_names_the_row_that_it_replaces,
            catalog: the_journal_has_no_gaps_and_follows_the_commits,
            catalog: a_refused_write_changes_nothing,
            catalog: concurrent_writers_get_one_winner_per_key_and_a_gapless_journal,
            catalog: what_is_not_journalled_leaves_the_journal_alone,
            catalog: usage_counts_what_is_visible,
            catalog: sizes_are_those_of_the_visible_objects_in_the_order_asked,
            catalog: a_batch_of_removals_is_one_transaction,
            catalog: a_large_batch_of_removals_journals_and_hides_every_key,
            catalog: a_conditional_removal_hides_the_very_row_that_was_read,
            catalog: an_object_that_was_removed_since_it_was_published_is_not_recorded,
            catalog: what_the_journal_does_not_reach_back_to_is_not_recorded,
            catalog: a_recorded_answer_is_found_by_the_same_request_only,
            catalog: keys_of_one_bucket_are_not_those_of_another,
            intents: an_intent_makes_its_key_busy_and_carries_all_that_a_resolver_needs,
            intents: one_intent_per_key,
            intents: an_intent_ends_exactly_once,
            intents: an_open_intent_commits_although_the_lock_drains,
            intents: an_intent_cannot_be_opened_on_a_row_that_its_writer_did_not_see,
            intents: nothing_else_changes_a_key_while_its_intent_is_open,
            intents: a_lock_is_fenced_only_when_no_intent_is_open,
            intents: an_ended_intents_number_is_not_used_again,
            retention: hidden_content_is_reapable_when_its_retention_has_passed_and_not_before,
            retention: what_is_due_is_told_on_from_where_an_answer_ended,
            retention: every_tombstone_is_told_page_by_page,
            retention: replaced_content_is_kept_under_its_other_name,
            retention: a_removal_without_retention_leaves_no_tombstone,
            retention: a_tombstone_moves_and_is_forgotten,
            retention: answers_are_forgotten_after_a_day_of_uptime,
            restore_points: a_roots_commit_makes_its_restore_point,
            restore_points: a_resolved_root_makes_its_restore_point_too,
            restore_points: an_adopted_root_is_noted_once_at_the_journals_end,
            restore_points: restore_points_come_newest_first_and_in_pages,
            restore_points: a_restore_point_is_found_by_a_journal_position,
            restore_points: the_catalog_as_of_a_sequence_is_what_was_visible_then,
            restore_points: a_page_of_the_past_has_common_prefixes_and_ends,
            restore_points: pages_of_the_past_are_those_of_a_replayed_map,
            restore_points: an_object_shown_again_is_seen_now_and_then,
            restore_points: what_is_shown_again_must_be_free_and_lie_at_its_name,
            restore_points: a_restore_point_is_incomplete_once_something_of_it_is_gone,
            restore_points: of_roots_noted_at_one_sequence_only_the_newest_is_spared,
            restore_points: a_root_without_a_pinned_snapshot_is_not_committed,
            restore_points: only_a_snapshot_of_the_newest_root_is_pinned,
            takeover: a_promotion_is_noted_with_its_freeze,
            takeover: a_promotion_begins_only_from_the_lock_that_was_read,
            takeover: a_promotion_that_is_taken_back_leaves_the_lock_as_it_was,
            takeover: only_the_promotion_under_way_changes_the_catalog,
            takeover: an_import_may_be_repeated,
            takeover: a_catalog_is_forgotten_in_bounded_batches,
            takeover: a_promoted_repository_is_where_its_promotion_put_it,
            takeover: what_is_newer_than_a_sequence_is_counted,
            uploads: an_upload_is_known_until_it_is_dropped,
            uploads: a_part_replaces_an_earlier_one_of_its_number,
            uploads: an_unknown_upload_takes_no_part,
            uploads: a_completed_upload_is_forgotten_and_its_answer_kept,
            uploads: an_upload_under_completion_is_not_dropped,
            uploads: uploads_are_listed_by_key_and_id,
            uploads: uploads_are_found_by_the_uptime_at_which_they_were_begun,
            uploads: the_bytes_of_metadata_in_parts_are_kept_until_their_upload_ends,
            uploads: the_stores_own_ids_are_those_of_uploads_and_intents,
            lineage: the_journal_takes_no_number_that_is_not_reserved,
            lineage: a_claim_that_was_noted_stays_until_it_is_made,
            lineage: after_a_recovery_the_journal_goes_on_above_every_number_that_was_reserved,
            lineage: a_committed_root_binds_its_cluster_to_the_epoch,
            lineage: a_database_knows_how_its_own_starts_called_themselves,
            listing: a_listing_is_sorted_by_bytes_and_seen_in_pages,
            listing: what_lies_below_a_common_prefix_is_one_entry,
            listing: a_position_inside_a_common_prefix_passes_it_over,
            listing: other_repositories_objects_are_not_seen,
            listing: a_common_prefix_needs_an_object_that_may_be_seen,
            listing: a_page_of_nothing_is_empty_and_not_truncated,
            listing: a_walk_sees_every_object_once_and_no_page_of_prefixes_ends_it,
            mirrors: a_mirror_is_found_again_as_it_was_left,
            mirrors: a_position_moves_on_and_never_while_a_reconciliation_is_recorded,
            mirrors: what_a_relieved_applier_reports_has_no_effect,
            mirrors: a_row_says_which_roots_its_target_has,
            mirrors: a_backlog_is_exact,
            mirrors: nothing_is_reaped_that_a_mirror_still_needs,
            mirrors: the_journal_is_cut_only_after_those_behind_were_told_to_reconcile,
            mirrors: a_healed_object_has_its_new_identity_and_nothing_else_changed,
            duties: a_duty_is_one_callers_until_it_is_given_back,
            digests: a_digest_is_given_back_while_its_object_has_that_content,
            digests: a_digest_goes_with_its_object,
            positions: a_position_is_kept_per_repository_and_work_until_it_is_forgotten,
            warnings: a_warning_is_open_once_until_it_is_cleared,
            warnings: warnings_of_one_kind_are_bounded_and_the_rest_is_counted,
            warnings: an_acknowledged_warning_stays_quiet_until_its_cause_is_gone,
            model: pages_of_any_bucket_are_those_of_a_sorted_map,
            model: pages_of_objects_never_repeat_or_miss_one,
        }
    };
}
pub(crate) use conformance;

macro_rules! promises {
    ($fresh:path; $($module:ident: $promise:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let (state, _kept) = $fresh().await;
            $crate::state::conformance::$module::$promise(&*state).await;
        }
    )*};
}
pub(crate) use promises;

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// One repository, as its holder `prod` sees it.
pub struct World {
    pub name: Repository,
    pub row: RepositoryRow,
    pub cluster: Cluster,
}

impl World {
    /// A repository in bucket `backup`, whose lock is vacant.
    pub async fn vacant(state: &dyn State, name: &str) -> Self {
        Self::at(state, name, "backup").await
    }

    pub async fn at(state: &dyn State, name: &str, bucket: &str) -> Self {
        let identity = RepositoryIdentity {
            name: Repository::new(name),
            bucket: Bucket::new(bucket),
            base_path: format!("base/{name}"),
            store: StoreName::new("disk"),
        };
        let row = state.open_repository(&identity).await.unwrap();
        Self {
            name: identity.name,
            row,
            cluster: Cluster::new("prod"),
        }
    }

    /// A repository whose lock `prod` holds at epoch 1.
    pub async fn held(state: &dyn State, name: &str) -> Self {
        let mut world = Self::vacant(state, name).await;
        world.hold(state, 1, "prod").await;
        world
    }

    pub async fn hold(&mut self, state: &dyn State, epoch: u64, holder: &str) {
        let holder = Cluster::new(holder);
        let lock = Lock::Held {
            epoch: Epoch(epoch),
            holder,
        };
        self.move_to(state, lock).await.unwrap();
    }

    pub async fn move_to(&mut self, state: &dyn State, lock: Lock) -> Result<(), WriteError> {
        let to = NewLock {
            lock,
            now_ms: 7,
            reason: None,
        };
        self.row.lock = state
            .move_lock(self.row.id, self.row.lock.version, to, entry("lock"))
            .await?;
        Ok(())
    }

    /// As the lock was when this world last looked.
    pub fn permit(&self) -> Permit {
        self.permit_of(Writing::Commit)
    }

    pub fn permit_of(&self, writing: Writing) -> Permit {
        let request = Request {
            repository: &self.name,
            caller: &self.cluster,
            may_write: true,
            writing,
            mode: Mode::Auto,
        };
        match admit(&self.row.lock.lock, request) {
            Verdict::Admit(permit) => permit,
            refused @ (Verdict::Take | Verdict::Wait | Verdict::Refuse(_)) => panic!("{refused:?}"),
        }
    }

    pub fn put(&self, name: &str) -> Put {
        Put {
            repository: self.row.id,
            bucket: self.row.bucket,
            key: key(name),
            size: 5,
            etag: "5d41402abc4b2a76b9719d911017c592".into(),
            hash: Some([7; 32]),
            identity: Identity("42:1000".into()),
            now_ms: 1_700_000_000_000,
            details: None,
            replaces: None,
            kept: None,
            journalled: true,
            completes: None,
            root: None,
            answer: None,
        }
    }

    pub fn removal(&self, name: &str, retain_ms: Option<u64>) -> Removal {
        Removal {
            bucket: self.row.bucket,
            repository: self.row.id,
            key: key(name),
            retain_ms,
            journalled: true,
            now_ms: 3,
        }
    }

    pub async fn record(&self, state: &dyn State, name: &str) -> u64 {
        let recorded = state.record(&self.permit(), self.put(name)).await;
        recorded.unwrap().sequence
    }

    /// The root of this generation, without a snapshot, as its holder writes it.
    pub async fn commit_root(&self, state: &dyn State, generation: u64) {
        let mut put = self.put(&format!("index-{generation}"));
        put.root = Some(CommittedRoot {
            generation,
            cluster: None,
            epoch: self.row.lock.lock.epoch(),
            snapshots: [].into(),
            newest: None,
            complete: true,
        });
        let new = NewIntent {
            upload: UploadId("store-upload".into()),
            binds: None,
            put,
        };
        let intent = state.open_intent(&self.permit(), new).await.unwrap();
        let identity = Identity("published".into());
        state.commit_intent(intent, identity).await.unwrap();
    }

    pub async fn object(&self, state: &dyn State, name: &str) -> Option<Object> {
        let lookup = state.object(self.row.bucket, &key(name)).await.unwrap();
        lookup.object
    }

    pub async fn sequences(&self, state: &dyn State) -> Vec<u64> {
        let journal = state.journal(self.row.id, 0, 100_000).await.unwrap();
        journal.iter().map(|entry| entry.sequence).collect()
    }

    pub fn answer_key(&self, invocation: &str) -> AnswerKey {
        AnswerKey {
            cluster: self.cluster.clone(),
            operation: "PutObject".into(),
            bucket: self.row.bucket,
            key: key("index-1"),
            invocation: invocation.into(),
            hash: [7; 32],
        }
    }
}

pub fn entry(action: &str) -> AuditEntry {
    AuditEntry {
        at_ms: 9,
        principal: "ops".into(),
        action: action.into(),
        repository: Some(Repository::new("logs")),
        epoch: Some(Epoch(1)),
        detail: serde_json::json!({"reason": "a test"}),
    }
}

pub fn rich_details() -> Arc<Details> {
    Arc::new(Details {
        headers: vec![("content-type".into(), "application/x-\"é\"".into())],
        checksums: vec![Checksum {
            algorithm: "crc32c".into(),
            value: "yZRlqg==".into(),
        }],
        parts: vec![PartDetail {
            number: 1,
            size: 5,
            checksum: None,
        }],
    })
}
