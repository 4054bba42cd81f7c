//! A full disk refuses writes, loses nothing, and heals without a restart.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A small file system of its own, gone when dropped. Mounting needs root.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "snapgate-test",
            ])
            .arg(directory.path())
            .status();
        assert!(
            mounted.is_ok_and(|s| s.success()),
            "this test mounts a small tmpfs: run it as root"
        );
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.directory.path()).status();
        assert!(unmounted.is_ok_and(|s| s.success()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_loses_nothing_and_heals() {
    let disk = SmallDisk::mount("6m");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let state = open_in(&disk.path());
    let world = World::held(&state, "logs").await;
    let filler = disk.path().join("filler");
    let (mut recorded, mut refused) = (0, 0);
    while refused < 3 {
        let put = world.put(&format!("key-{recorded}"));
        match state.record(&world.permit(), put).await {
            // The room that a refused one had begun to use may hold a smaller one.
            Ok(_) => recorded += 1,
            Err(WriteError::Failed(Error::Full)) => refused += 1,
            Err(e) => panic!("{e:?}"),
        }
        if refused == 1 {
            assert!(std::fs::write(&filler, vec![1; 6 << 20]).is_err());
        }
    }
    let last = key(&format!("key-{}", recorded - 1));
    let lookup = state.object(world.row.bucket, &last).await.unwrap();
    assert!(lookup.object.is_some(), "reads go on");

    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(ballast).unwrap();
    world.record(&state, "healed").await;
    assert_eq!(world.object(&state, &format!("key-{recorded}")).await, None);
    let expected: Vec<u64> = (1..=recorded + 1).collect();
    assert_eq!(world.sequences(&state).await, expected);
    assert_eq!(
        state.usage(world.row.id).await.unwrap().objects,
        recorded + 1
    );
    drop(state);
}
