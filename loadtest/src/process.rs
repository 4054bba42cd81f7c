//! A server under test: started on one core, watched through `/proc`, stopped by its own id.
//!
//! Invariant: whatever ends this program ends the servers: each is killed when its [`Server`] is dropped,
//! which an error, a panic and Ctrl-C all lead to, and by the kernel when this program is killed itself.
//! Their data is scratch, so they are killed, not asked.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Server {
    child: Child,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} did not listen on {address}; its log ends with:\n{log}")]
    NotListening {
        program: String,
        address: SocketAddr,
        log: String,
    },
}

impl Server {
    /// Starts `command` on `core` and waits until `address` accepts. Its output goes to `log`.
    pub async fn start(
        command: &Command,
        core: usize,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| Error::Start {
            program: program.clone(),
            source,
        };
        let output = File::create(log).map_err(failed)?;
        let mut pinned = Command::new("setpriv");
        pinned
            .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => pinned.env(name, value),
                None => pinned.env_remove(name),
            };
        }
        let mut server = Self {
            child: pinned.spawn().map_err(failed)?,
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let gone = server.child.try_wait().map_err(failed)?.is_some();
            if gone || begun.elapsed() > START {
                return Err(Error::NotListening {
                    program,
                    address,
                    log: last_lines(log),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    pub fn processes(&self) -> Processes {
        Processes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either it ends now or it had ended already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// Writes a large file into memory and removes it. A virtual machine pays for each page that it uses for the
/// first time; without this, whoever comes first pays for all.
pub fn touch_memory(file: &Path) -> io::Result<()> {
    const TOUCHED: usize = 8 << 30;
    let zeroes = vec![0; 1 << 20];
    let mut to = File::create(file)?;
    for _ in 0..TOUCHED / zeroes.len() {
        to.write_all(&zeroes)?;
    }
    fs::remove_file(file)
}

/// A port that is free now.
pub fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A process and all it started.
#[derive(Debug, Clone, Copy)]
pub struct Processes(pub u32);

impl Processes {
    /// User and system time so far, of all of them and of children that have ended.
    pub fn cpu(self) -> Duration {
        let ticks: u64 = self
            .all()
            .into_iter()
            .filter_map(|pid| stat(pid).map(|stat| stat.ticks))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident memory now, in bytes.
    pub fn resident(self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that was resident since [`Processes::forget_peak`], in bytes.
    pub fn peak(self) -> u64 {
        self.memory("VmHWM:")
    }

    pub fn forget_peak(self) {
        for pid in self.all() {
            // 5 = reset the high-water mark of resident memory (proc_pid_clear_refs(5)); a process that
            // has just ended has no peak any more.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    fn memory(self, field: &str) -> u64 {
        let of = |pid: u32| -> Option<u64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.all().into_iter().filter_map(of).sum::<u64>() * 1024
    }

    fn all(self) -> Vec<u32> {
        let running: Vec<Stat> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(stat)
            .collect();
        let mut found = vec![self.0];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            next += 1;
            found.extend(
                running
                    .iter()
                    .filter(|process| process.parent == parent)
                    .map(|process| process.pid),
            );
        }
        found
    }
}

/// User and system time of this program alone: the servers are its children.
pub fn own_cpu() -> Duration {
    let ticks = stat(std::process::id()).map_or(0, |stat| stat.own_ticks);
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

struct Stat {
    pid: u32,
    parent: u32,
    own_ticks: u64,
    /// Those of children that have ended included.
    ticks: u64,
}

/// `/proc/PID/stat`; the name in it may hold anything, so fields are counted after its last parenthesis.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        // utime, stime and those of children that were waited for: fields 14-17 of proc_pid_stat(5).
        own_ticks: (11..13).filter_map(number).sum(),
        ticks: (11..15).filter_map(number).sum(),
    })
}

/// Keeps this program on one core.
pub fn pin_self(core: usize) -> io::Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string()])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("taskset failed"))
    }
}

/// A program of the cache, or one on the path.
pub fn program(cache: &Path, name: &str) -> PathBuf {
    let cached = cache.join(name);
    if cached.exists() {
        cached
    } else {
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this() -> Processes {
        Processes(std::process::id())
    }

    #[test]
    fn cpu_time_of_a_busy_process_grows() {
        let before = (this().cpu(), own_cpu());
        let begun = Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed() < Duration::from_millis(300) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(this().cpu() > before.0 && own_cpu() > before.1);
    }

    #[test]
    fn the_peak_is_forgotten_and_found_again() {
        let this = this();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        this.forget_peak();
        let low = this.peak();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(this.peak() >= low + (48 << 20), "the block is in the peak");
        drop(block);
    }

    #[test]
    fn children_are_counted() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let all = this().all();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all.contains(&child.id()));
    }
}
