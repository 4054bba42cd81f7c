//! `certs dev` and `certs rotate`: certificates for development.

use std::path::PathBuf;

use clap::Subcommand;

use super::client::Failure;
use crate::telemetry::clock;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a development authority with a server and a client certificate in DIR
    Dev {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Names and addresses of the server
        #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        names: Vec<String>,
    },
    /// Replace the server and client certificates in DIR by new ones of the same authority
    Rotate {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        names: Vec<String>,
    },
}

pub fn run(verb: Verb) -> Result<(), Failure> {
    let made = match verb {
        Verb::Dev { dir, names } => certs::development(&dir, &names, clock::now()),
        Verb::Rotate { dir, names } => certs::rotate(&dir, &names, clock::now()),
    };
    let paths = made.map_err(|e| Failure::Refused(e.to_string()))?;
    say!("authority:  {}", paths.authority.certificate.display());
    say!(
        "server:     {} and {}",
        paths.server.certificate.display(),
        paths.server.key.display()
    );
    say!(
        "client:     {} and {}",
        paths.client.certificate.display(),
        paths.client.key.display()
    );
    Ok(())
}
