//! Every configuration that is refused, with what its user reads: the file, the key, what is wrong, what to do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Lookup, Plan, load};

/// Accepted as it stands; each test spoils one place of it.
const GOOD: &str = r#"
[s3]
listen = "127.0.0.1:9000"
domain = "s3.backup.example"

[admin]
listen = "127.0.0.1:9001"
token_file = "token"

[state]
url = "sqlite:snapgate.db"

[clusters.prod]
keys = [{ id = "AKPROD", secret_file = "prod" }]
[clusters.dr]
keys = [{ id = "AKDR", secret_file = "dr" }]

[stores.eu]
url = "file:///srv/eu"
other_gateways_every = "5s"
sweep_every = "1d"
[stores.us]
url = "s3://bucket/prefix"
endpoint = "http://127.0.0.1:9100"
credentials = { id = "AKSTORE", secret_file = "store" }

[repositories.logs]
bucket = "snapshots"
base_path = "prod/logs"
store = "eu"
writers = ["prod"]
readers = ["dr"]
delete_retention = "7d"
"#;

/// The files that `GOOD` names, in a folder of their own.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["token", "prod", "dr", "store"] {
        secret(folder.path(), name, "0123456789abcdef0123\n", 0o600);
    }
    folder
}

fn secret(folder: &Path, name: &str, text: &str, mode: u32) {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
}

fn loaded(folder: &Path, text: &str) -> Result<Plan, String> {
    let config = folder.join("snapgate.toml");
    std::fs::write(&config, text).unwrap();
    let lookup = Lookup {
        config: Some(config),
        ..Lookup::default()
    };
    load(&lookup).map_err(|e| e.to_string().replace(&format!("{}/", folder.display()), ""))
}

/// What is said when `from` reads `to`.
fn refused(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from} stands there once");
    loaded(folder().path(), &GOOD.replace(from, to)).expect_err(to)
}

#[test]
fn what_the_other_tests_spoil_is_accepted() {
    let plan = loaded(folder().path(), GOOD).unwrap();
    assert_eq!((plan.keys.len(), plan.stores.len()), (2, 2));
    assert_eq!(plan.repositories.len(), 1);
}

#[test]
fn each_refusal_names_file_key_problem_and_remedy() {
    let no_file = "cannot be read (No such file or directory (os error 2))";
    for (from, to, said) in [
        (
            r#"listen = "127.0.0.1:9000""#,
            r#"listen = "localhost""#,
            "s3.listen: 'localhost' is not an address and port; write one such as 127.0.0.1:9000 or [::1]:9000",
        ),
        (
            r#"listen = "127.0.0.1:9001""#,
            r#"listen = "127.0.0.1:99999""#,
            "admin.listen: '127.0.0.1:99999' is not an address and port; write one such as 127.0.0.1:9000 or [::1]:9000",
        ),
        (
            "s3.backup.example",
            "s3..example",
            "s3.domain: 's3..example' is not a domain name; write one such as s3.backup.example",
        ),
        (
            r#"domain = "s3.backup.example""#,
            r#"region = "EU""#,
            "s3.region: 'EU' has characters other than a-z, 0-9 and '-'; write one such as eu-west-1",
        ),
        (
            r#"domain = "s3.backup.example""#,
            r#"tls = { cert = "cert.pem", key = "prod" }"#,
            &format!(
                "s3.tls.cert: 'cert.pem' {no_file}; name a PEM file with the certificate chain"
            ),
        ),
        (
            r#"domain = "s3.backup.example""#,
            r#"tls = { cert = "prod", key = "key.pem" }"#,
            &format!("s3.tls.key: 'key.pem' {no_file}; create it with mode 0600"),
        ),
        (
            r#"token_file = "token""#,
            "",
            "admin.token_file: is missing: there is no default token; name a file with a random token of your own (mode 0600)",
        ),
        (
            r#"token_file = "token""#,
            r#"token_file = "nowhere""#,
            &format!("admin.token_file: 'nowhere' {no_file}; create it with mode 0600"),
        ),
        (
            r#"token_file = "token""#,
            "token_file = \"token\"\nclient_ca = \"ca.pem\"",
            r#"admin.client_ca: needs admin.tls; add tls = { cert = "…", key = "…" }"#,
        ),
        (
            "sqlite:snapgate.db",
            "mysql://db/snapgate",
            "state.url: 'mysql://db/snapgate' is not known; use sqlite:FILE or postgres://USER@HOST/DATABASE",
        ),
        (
            "[clusters.prod]",
            "[clusters.\"pr/od\"]",
            "clusters.pr/od: the name has characters other than letters, digits, '-', '_' and '.'; choose another name",
        ),
        (
            "AKPROD",
            "AK/PROD",
            "clusters.prod.keys[0].id: is empty or has characters that a signature cannot carry; use letters and digits",
        ),
        (
            "AKPROD",
            "AKDR",
            "clusters.prod.keys[0].id: 'AKDR' is used twice; each key belongs to one cluster",
        ),
        (
            r#"secret_file = "dr""#,
            r#"secret_file = "nowhere""#,
            &format!(
                "clusters.dr.keys[0].secret_file: 'nowhere' {no_file}; create it with mode 0600"
            ),
        ),
        (
            "file:///srv/eu",
            "/srv/eu",
            "stores.eu.url: '/srv/eu' is not a URL; use file:///path or s3://bucket/prefix",
        ),
        (
            "file:///srv/eu",
            "file://",
            "stores.eu.url: names no directory; use file:///path",
        ),
        (
            "file:///srv/eu",
            "gs://bucket",
            "stores.eu.url: gs:// stores are not built yet; use file:///path or s3://bucket/prefix",
        ),
        (
            "file:///srv/eu",
            "ftp://host/x",
            "stores.eu.url: 'ftp' is not a known kind of store; use file:///path or s3://bucket/prefix",
        ),
        (
            r#"secret_file = "store""#,
            r#"secret_file = "nowhere""#,
            &format!(
                "stores.us.credentials.secret_file: 'nowhere' {no_file}; create it with mode 0600"
            ),
        ),
        (
            r#"bucket = "snapshots""#,
            r#"bucket = "Snapshots""#,
            "repositories.logs.bucket: 'Snapshots' is not a bucket name; use 3 to 63 lower-case letters, digits, '-' and '.'",
        ),
        (
            r#"bucket = "snapshots""#,
            r#"bucket = "10.0.0.1""#,
            "repositories.logs.bucket: '10.0.0.1' is not a bucket name; use 3 to 63 lower-case letters, digits, '-' and '.'",
        ),
        (
            r#"store = "eu""#,
            r#"store = "mars""#,
            "repositories.logs.store: there is no store 'mars'; add [stores.mars]",
        ),
        (
            "prod/logs",
            "prod/../logs",
            "repositories.logs.base_path: 'prod/../logs' has an empty, '.' or '..' segment or a reserved name; choose another path",
        ),
        (
            "prod/logs",
            ".snapgate/x",
            "repositories.logs.base_path: '.snapgate/x' has an empty, '.' or '..' segment or a reserved name; choose another path",
        ),
        (
            r#"writers = ["prod"]"#,
            r#"writers = ["prof"]"#,
            "repositories.logs.writers: there is no cluster 'prof'; add [clusters.prof]",
        ),
        (
            r#"readers = ["dr"]"#,
            r#"readers = ["rd"]"#,
            "repositories.logs.readers: there is no cluster 'rd'; add [clusters.rd]",
        ),
    ] {
        assert_eq!(refused(from, to), format!("snapgate.toml: {said}"));
    }
}

#[test]
fn what_cannot_be_read_as_a_setting_is_refused_with_its_line() {
    for (from, to, key, problem) in [
        ("[s3]", "[s3", "syntax", "(line 2)"),
        (
            "base_path =",
            "basepath =",
            "syntax",
            "unknown field `basepath`",
        ),
        (
            r#"store = "eu""#,
            "store = 7",
            "syntax",
            "invalid type: integer `7`, expected a string (line 30)",
        ),
        (
            r#"other_gateways_every = "5s""#,
            r#"other_gateways_every = "often""#,
            "stores.eu.other_gateways_every",
            "'often'",
        ),
        (
            r#"sweep_every = "1d""#,
            r#"sweep_every = "daily""#,
            "stores.eu.sweep_every",
            "'daily'",
        ),
        (
            r#"delete_retention = "7d""#,
            r#"delete_retention = "7 days""#,
            "repositories.logs.delete_retention",
            "'7 days'",
        ),
        (
            r#"delete_retention = "7d""#,
            r#"uploads_end_after = "soon""#,
            "repositories.logs.uploads_end_after",
            "'soon'",
        ),
        (
            "http://127.0.0.1:9100",
            "http://169.254.169.254",
            "stores.us",
            "169.254.169.254",
        ),
    ] {
        let said = refused(from, to);
        assert!(
            said.starts_with(&format!("snapgate.toml: {key}: ")),
            "{said}"
        );
        assert!(said.contains(problem), "{said}");
        let (_, remedy) = said.split_once("; ").expect("a remedy follows");
        assert!(remedy.len() >= "correct it".len(), "{said}");
    }
}

#[test]
fn a_secret_that_others_may_read_or_that_is_none_is_refused_and_never_shown() {
    for (text, mode, said) in [
        (
            "0123456789abcdef0123\n",
            0o640,
            "'token' can be read by others (mode 0640); chmod 600 'token'",
        ),
        (
            "",
            0o600,
            "'token' must hold one line; write the secret alone into it",
        ),
        (
            "hush-hush-hush-hush\nhush\n",
            0o600,
            "'token' must hold one line; write the secret alone into it",
        ),
        (
            "hush\n",
            0o600,
            "the token is shorter than 16 characters; write a longer random one",
        ),
    ] {
        let folder = folder();
        secret(folder.path(), "token", text, mode);
        let error = loaded(folder.path(), GOOD).unwrap_err();
        assert_eq!(error, format!("snapgate.toml: admin.token_file: {said}"));
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn repositories_that_would_share_names_are_refused() {
    let with = |bucket: &str, base_path: &str, store: &str| {
        let other = format!(
            "\n[repositories.other]\nbucket = '{bucket}'\nbase_path = '{base_path}'\nstore = '{store}'\n"
        );
        loaded(folder().path(), &(GOOD.to_owned() + &other))
    };
    assert!(with("snapshots", "prod/other", "eu").is_ok());
    assert!(with("another", "prod/logs", "us").is_ok());
    let twice = with("snapshots", "prod/logs", "us").unwrap_err();
    assert!(
        twice.starts_with("snapgate.toml: repositories: "),
        "{twice}"
    );
    assert!(
        twice.ends_with("; give each repository a base_path of its own"),
        "{twice}"
    );
    assert_eq!(
        with("another", "prod", "eu").unwrap_err(),
        "snapgate.toml: repositories.other.base_path: repository 'logs' of another bucket uses the same names in store 'eu'; \
         give one of them another base_path or a store of its own"
    );
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let lookup = Lookup {
        config: Some("/nowhere/snapgate.toml".into()),
        ..Lookup::default()
    };
    assert_eq!(
        load(&lookup).unwrap_err().to_string(),
        "/nowhere/snapgate.toml: file: cannot be read (No such file or directory (os error 2)); \
         name an existing file with --config or $SNAPGATE_CONFIG"
    );
}

#[test]
fn an_address_of_the_command_line_is_checked_like_one_of_the_file() {
    let folder = folder();
    let config = folder.path().join("snapgate.toml");
    std::fs::write(&config, GOOD).unwrap();
    let lookup = Lookup {
        config: Some(config),
        s3_listen: Some("here".into()),
        ..Lookup::default()
    };
    assert_eq!(
        load(&lookup).unwrap_err().to_string(),
        "command line: --s3-listen: 'here' is not an address and port; write one such as 127.0.0.1:9000 or [::1]:9000"
    );
}

#[test]
fn the_embedded_default_listens_to_this_machine_alone_and_keeps_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let lookup = |admin: &str| Lookup {
        data: Some(folder.path().join("data")),
        admin_listen: Some(admin.into()),
        ..Lookup::default()
    };
    let keys = |plan: &Plan| {
        let mut ids: Vec<String> = plan.keys.keys().cloned().collect();
        ids.sort();
        ids
    };
    let first = load(&lookup("127.0.0.1:0")).unwrap();
    assert_eq!(
        load(&lookup("0.0.0.0:9001")).unwrap_err().to_string(),
        "embedded default: --admin-listen: 0.0.0.0:9001 is not a loopback address; write a snapgate.toml to serve other machines"
    );
    let second = load(&lookup("[::1]:0")).unwrap();
    assert_eq!(keys(&first), keys(&second));
    let file = folder.path().join("data/credentials.toml");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let open = load(&lookup("127.0.0.1:0")).unwrap_err().to_string();
    assert!(
        open.contains("can be read by others (mode 0644); chmod 600"),
        "{open}"
    );
}
