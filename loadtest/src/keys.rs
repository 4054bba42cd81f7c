//! Names as clusters give them, and the sizes a snapshot is made of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;

/// How a key is named, which decides the way it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `indices/<index>/<shard>/__<uuid>`: written once.
    Data,
    /// `snap-<uuid>.dat`: part of what a commit makes visible.
    Commit,
}

/// 128 random bits in URL-safe base64: 22 characters, as Elasticsearch and OpenSearch write them.
pub fn uuid() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

/// Above all data of a repository.
pub const INDICES: &str = "indices/";

/// One shard's directory, with its closing slash.
pub fn shard() -> String {
    format!("{INDICES}{}/{}/", uuid(), rand::random_range(0..5))
}

/// A new name; data blobs of one worker share its shard.
pub fn name(naming: Naming, shard: &str) -> String {
    match naming {
        Naming::Data => format!("{shard}__{}", uuid()),
        Naming::Commit => format!("snap-{}.dat", uuid()),
    }
}

/// Blob sizes of a snapshot, by count in a hundred. Lucene writes many small files and merges them into
/// few large ones: each size is about half as frequent and carries about twice the bytes of the one before.
pub const SIZES: [(usize, u32); 8] = [
    (4 * KIB, 40),
    (16 * KIB, 20),
    (64 * KIB, 15),
    (256 * KIB, 10),
    (MIB, 8),
    (4 * MIB, 4),
    (16 * MIB, 2),
    (64 * MIB, 1),
];

/// The size of a blob of a snapshot; `draw` is uniform below 100.
pub fn blob_size(draw: u32) -> usize {
    let mut below = 0;
    for (size, count) in SIZES {
        below += count;
        if draw < below {
            return size;
        }
    }
    SIZES[0].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_has_the_form_clusters_give_it() {
        let shard = shard();
        let key = name(Naming::Data, &shard);
        let parts: Vec<&str> = key.split('/').collect();
        assert_eq!(parts.len(), 4, "{key}");
        assert_eq!((parts[0], parts[1].len()), ("indices", 22));
        assert_eq!(parts[3].strip_prefix("__").map(str::len), Some(22));
    }

    #[test]
    fn every_size_is_drawn_as_often_as_its_share() {
        for (size, count) in SIZES {
            let drawn = (0..100).filter(|draw| blob_size(*draw) == size).count();
            assert_eq!(drawn, count as usize, "{size}");
        }
    }
}
