//! What a user writes, checked before anything listens.
//!
//! [`settings`] is the file as written; [`check`] turns it into a [`Plan`], the only thing the rest of the
//! program builds from. Invariant: a plan is complete and consistent, every secret is read, and whatever is
//! wrong is an [`Error`] that names the file, the key and the remedy.

use std::path::{Path, PathBuf};

mod check;
mod clusters;
pub mod embedded;
mod listeners;
mod mirrors;
mod name;
mod pace;
mod repositories;
pub mod secret;
pub mod settings;
pub mod state;
mod stores;
#[cfg(test)]
mod tests;
pub mod units;

pub use check::Plan;
pub use listeners::AdminPlan;
pub use secret::Secret;
pub use state::StatePlan;
pub use stores::{StorePlan, StoreUrl};

/// Where the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// No file: the embedded default, everything below this directory.
    Embedded(PathBuf),
}

/// One thing that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {key}: {problem}; {remedy}")]
pub struct Error {
    pub file: String,
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

impl Error {
    fn new(
        file: &Path,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: file.display().to_string(),
            key: key.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// What the command line and the environment say about where to look.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    pub config: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub s3_listen: Option<String>,
    pub admin_listen: Option<String>,
}

/// Finds the configuration: `--config` or `$SNAPGATE_CONFIG` (both arrive in `lookup`), `./snapgate.toml`, embedded default.
#[must_use]
pub fn find(lookup: &Lookup) -> Source {
    if let Some(file) = &lookup.config {
        return Source::File(file.clone());
    }
    let local = PathBuf::from("snapgate.toml");
    if local.exists() {
        return Source::File(local);
    }
    Source::Embedded(
        lookup
            .data
            .clone()
            .unwrap_or_else(|| PathBuf::from("snapgate-data")),
    )
}

/// Reads and checks; nothing is created except the embedded default's own files.
pub fn load(lookup: &Lookup) -> Result<Plan, Error> {
    let source = find(lookup);
    let mut plan = match &source {
        Source::File(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| {
                Error::new(
                    file,
                    "file",
                    format!("cannot be read ({e})"),
                    "name an existing file with --config or $SNAPGATE_CONFIG",
                )
            })?;
            let settings: settings::Settings = toml::from_str(&text).map_err(|e| {
                Error::new(
                    file,
                    "syntax",
                    e.message().to_owned() + &location(&text, e.span()),
                    "see the configuration reference in README.md",
                )
            })?;
            check::check(file, settings)?
        }
        Source::Embedded(data) => embedded::plan(data)?,
    };
    let typed = Path::new("command line");
    if let Some(listen) = &lookup.s3_listen {
        plan.s3.listen = listeners::address(typed, "--s3-listen", listen)?;
    }
    if let Some(listen) = &lookup.admin_listen {
        plan.admin.listen = listeners::address(typed, "--admin-listen", listen)?;
    }
    if matches!(source, Source::Embedded(_)) {
        embedded::only_loopback(&plan)?;
    }
    plan.source = source;
    Ok(plan)
}

fn location(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    span.map_or_else(String::new, |span| {
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        format!(" (line {line})")
    })
}
