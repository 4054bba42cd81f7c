//! The entries of the parsers: what each is fed, and what must hold besides that it comes back.

use std::sync::Arc;

use policies::format::closure::{Knowledge, Observed};
use policies::format::digest::{self, Digest, kept};
use policies::format::footer::{LuceneFooter, PartCrc};
use policies::format::frame::{self, Codec, Limits};
use policies::format::merge;
use policies::format::paths::{self, PathType, ShardPaths};
use policies::format::root::{Generation, Root};
use policies::format::shard::{File, MAX_OBJECTS, ShardIndex, ShardSnapshot};
use policies::format::smile;
use policies::format::snapshot::{IndexMetadata, SnapshotInfo};
use policies::guard::{Guard, Rules};
use policies::identity::{Bucket, Repository};
use policies::key::{Class, Configured, Layout, ObjectKey, Shard};
use policies::lock::anchor::{self, Stored};

use crate::broken::Broken;
use crate::repositories::{self, Fixture, Store};

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Root,
    /// A root judged by the guard of a repository of three path types.
    Admission,
    /// Two roots, a NUL between them: a snapshot of the second put back into the first.
    MergedRoot,
    ShardPaths,
    /// A blob as it came, and again with its checksum mended, so that what lies behind it is reached.
    Frame,
    Smile,
    SnapshotInfo,
    IndexMetadata,
    ShardSnapshot,
    ShardIndex,
    /// A shard's body merged with itself.
    MergedShardIndex,
    KeptDigest,
    Footer,
    /// Anchors, a NUL between them.
    Anchor,
    Key,
    /// One that is wrong on purpose: what the runner itself is tested with.
    Broken(Broken),
}

/// How far a body may inflate here; the memory that an execution may take is a multiple of it.
pub const LIMITS: Limits = Limits {
    size: 1 << 20,
    ratio: 1000,
};

/// A target with what it needs at hand.
pub struct Reader {
    target: Target,
    guarded: Option<Guarded>,
    layout: Layout,
}

struct Guarded {
    guard: Guard,
    store: Store,
    /// Of the newest root; what another root asks for is added for that root only.
    facts: Observed,
}

impl Reader {
    pub fn new(target: Target) -> Self {
        let configured = Configured {
            repository: Repository::new("prod"),
            bucket: Bucket::new("bucket"),
            base_path: "base/path".to_owned(),
        };
        Self {
            target,
            guarded: (target == Target::Admission).then(Guarded::new),
            layout: Layout::new([configured]).unwrap(),
        }
    }

    /// Reads one input. Whatever it is, this comes back.
    pub fn read(&self, input: &[u8]) {
        match self.target {
            Target::Root => root(input),
            Target::Admission => self.guarded.iter().for_each(|guarded| guarded.admit(input)),
            Target::MergedRoot => merged_root(input),
            Target::ShardPaths => shard_paths(input),
            Target::Frame => {
                framed(input);
                framed(&frame::close(
                    input[..input.len().saturating_sub(16)].to_vec(),
                ));
            }
            Target::Smile => tree(input),
            Target::SnapshotInfo => {
                kept_as_read(SnapshotInfo::parse(input).map(Digest::SnapshotInfo));
            }
            Target::IndexMetadata => {
                kept_as_read(IndexMetadata::parse(input).map(|read| {
                    assert!((1..=65_536).contains(&read.shards));
                    Digest::IndexMetadata(read)
                }));
            }
            Target::ShardSnapshot => kept_as_read(ShardSnapshot::parse(input).map(|body| {
                listed(&body.files);
                Digest::ShardSnapshot(body)
            })),
            Target::ShardIndex => kept_as_read(ShardIndex::parse(input).map(|body| {
                listed(&body.files);
                Digest::ShardIndex(body)
            })),
            Target::MergedShardIndex => merged_shard_index(input),
            Target::KeptDigest => kept_as_read(kept::decode(input).ok_or(())),
            Target::Footer => footer(input),
            Target::Anchor => anchors(input),
            Target::Key => self.key(input),
            Target::Broken(broken) => broken.read(input),
        }
    }

    fn key(&self, input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let _ = Class::parse(&text);
        if let Ok(key) = ObjectKey::parse(&text) {
            let _ = self.layout.locate(&Bucket::new("bucket"), &key);
            let _ = self.layout.twin(&Bucket::new("bucket"), &key);
        }
        let _ = self.layout.view_of_prefix(&Bucket::new("bucket"), &text);
    }
}

/// The repository that roots are judged in.
pub fn guarded_fixture() -> Fixture {
    let mut all = repositories::all().into_iter();
    all.find(|fixture| fixture.name == "mixed-opensearch-1.3-3.8/before-delete")
        .unwrap()
}

impl Guarded {
    fn new() -> Self {
        let fixture = guarded_fixture();
        let store = Store {
            objects: fixture.objects,
            listing: None,
        };
        let mut knowledge = Knowledge::new(paths::Layout::new("").unwrap());
        let root = Arc::new(repositories::newest_root(&store.objects, ""));
        let mut facts = Observed::default();
        let proposal = loop {
            match knowledge.propose(root.clone(), &facts) {
                Ok(proposal) => break proposal,
                Err(needs) => store.answer(needs, &mut facts),
            }
        };
        knowledge.commit(proposal);
        Self {
            guard: Guard::adopted(Repository::new("prod"), knowledge),
            store,
            facts,
        }
    }

    fn admit(&self, body: &[u8]) {
        let Ok(candidate) = self.guard.candidate(1_000, body) else {
            return;
        };
        let mut more = None;
        loop {
            let facts = more.as_ref().unwrap_or(&self.facts);
            match self.guard.admit(&candidate, Rules::default(), facts) {
                Ok(Ok(admitted)) => return assert_eq!(admitted.root().generation, 1_000),
                Ok(Err(refusal)) => return assert!(!refusal.to_string().is_empty()),
                Err(needs) => {
                    let mut all = facts.clone();
                    self.store.answer(needs, &mut all);
                    more = Some(all);
                }
            }
        }
    }
}

/// A root that parses is closed in itself, and everything it names has a key.
fn root(input: &[u8]) {
    let Ok(root) = Root::parse(1, input) else {
        return;
    };
    let layout = paths::Layout::new("base").unwrap();
    for snapshot in &root.snapshots {
        assert!(root.snapshot(&snapshot.uuid).is_some());
        let key = layout.snapshot_info(&snapshot.uuid);
        assert!(key.as_str().starts_with("base/snap-"));
    }
    for index in &root.indices {
        for snapshot in &index.snapshots {
            let key = layout.index_metadata(&index.id, root.index_metadata_id(index, *snapshot));
            assert!(key.as_str().starts_with("base/indices/"));
        }
        let shard = Shard {
            index: index.id.clone(),
            number: 3,
        };
        let directory = layout.shard_directory(&shard, index.path_type);
        if let Generation::Uuid(uuid) = index.generation(3) {
            let key = paths::data(&directory, uuid, None);
            assert!(key.as_str().starts_with(&directory));
        }
    }
}

fn merged_root(input: &[u8]) {
    let mut two = input.splitn(2, |byte| *byte == 0);
    let (newest, donor) = (two.next().unwrap_or(&[]), two.next().unwrap_or(&[]));
    let (Ok(root), Ok(older)) = (Root::parse(2, newest), Root::parse(1, donor)) else {
        let _ = merge::root(newest, donor, "", &Default::default());
        return;
    };
    for snapshot in &older.snapshots {
        if merge::parts(&root, &older, &snapshot.uuid).is_ok()
            && let Ok(merged) = merge::root(newest, donor, &snapshot.uuid, &Default::default())
        {
            let merged = Root::parse(3, &merged).unwrap();
            assert!(merged.snapshot(&snapshot.uuid).is_some());
        }
    }
}

fn shard_paths(input: &[u8]) {
    if let Ok(paths) = ShardPaths::parse(input) {
        let mut layout = paths::Layout::new("base").unwrap();
        layout.learn(&paths);
        let shard = Shard {
            index: paths.index_id.as_str().into(),
            number: 0,
        };
        let directory = layout.shard_directory(&shard, PathType::Other(9));
        let key = paths::data(&directory, "__0", Some(7));
        assert!(key.as_str().ends_with("__0.part7"));
    }
}

fn framed(blob: &[u8]) {
    let Ok(frame) = frame::open(blob) else {
        return;
    };
    if let Ok(document) = frame.document(LIMITS) {
        assert!(document.len() <= LIMITS.size);
    }
    let text: Arc<str> = "x".into();
    let shard = Shard {
        index: text.clone(),
        number: 0,
    };
    let classes = match frame.codec {
        Codec::Snapshot => vec![
            Class::SnapshotInfo(text.clone()),
            Class::ShardSnapshot {
                shard,
                uuid: text,
                shallow: false,
            },
        ],
        Codec::Metadata => vec![Class::GlobalMetadata(text)],
        Codec::IndexMetadata => vec![Class::IndexMetadata {
            index: text.clone(),
            id: text,
        }],
        Codec::Snapshots => vec![Class::ShardIndex {
            shard,
            generation: policies::key::ShardGeneration::Number(1),
        }],
    };
    for class in classes {
        if let Some(Ok(read)) = digest::read(&class, blob, LIMITS) {
            assert_eq!(kept::decode(&kept::encode(&read)).as_ref(), Some(&*read));
        }
    }
}

/// What is read is written so that it is read the same again.
fn tree(input: &[u8]) {
    if let Ok(value) = smile::decode(input) {
        let written = smile::encode(&value, smile::Flags::CLUSTER);
        let again = smile::decode(&written).unwrap();
        assert_eq!(smile::encode(&again, smile::Flags::CLUSTER), written);
    }
}

fn kept_as_read<E>(read: Result<Digest, E>) {
    if let Ok(digest) = read {
        assert_eq!(kept::decode(&kept::encode(&digest)), Some(digest));
    }
}

/// All parts together are bounded, and each has the size that is asked for by its number.
fn listed(files: &[File]) {
    assert!(files.is_sorted());
    let parts: u64 = files.iter().map(File::parts).sum();
    assert!(parts <= MAX_OBJECTS);
    for file in files {
        if let Some((part, size)) = file.objects().last() {
            let part = part.map(|part| u32::try_from(part).unwrap());
            assert_eq!(file.object_size(part), Some(size));
        }
    }
}

fn merged_shard_index(document: &[u8]) {
    let index = frame::seal(Codec::Snapshots, document, false);
    let snapshot = frame::seal(Codec::Snapshot, document, false);
    if let Ok(merged) = merge::shard_index(Some(&index), &snapshot) {
        let merged = frame::open_as(&merged, Codec::Snapshots).unwrap();
        smile::decode(&merged.document(Limits::default()).unwrap()).unwrap();
    }
}

/// However a file comes in pieces, its footer says the same.
fn footer(file: &[u8]) {
    let mut whole = LuceneFooter::default();
    whole.update(file);
    let size = file.first().map_or(1, |byte| usize::from(*byte) + 1);
    let mut pieces = LuceneFooter::default();
    file.chunks(size).for_each(|piece| pieces.update(piece));
    assert_eq!(whole.finish(), pieces.finish());
    let (first, second) = file.split_at(size.min(file.len()));
    assert_eq!(
        PartCrc::of(first).then(PartCrc::of(second)),
        PartCrc::of(file)
    );
}

fn anchors(input: &[u8]) {
    let repository = Repository::new("prod");
    let bodies: Vec<&[u8]> = input.split(|byte| *byte == 0).collect();
    let names: Vec<String> = (1..)
        .zip(&bodies)
        .map(|(epoch, _)| anchor::name(&repository, policies::identity::Epoch(epoch)))
        .collect();
    for (name, bytes) in names.iter().zip(&bodies) {
        if let Ok(read) = anchor::decode(name, bytes) {
            assert_eq!(anchor::decode(name, &anchor::encode(&read)), Ok(read));
        }
    }
    let stored = names.iter().zip(&bodies);
    let _ = anchor::verify_chain(
        &repository,
        stored.map(|(name, bytes)| Stored { name, bytes }),
    );
}
