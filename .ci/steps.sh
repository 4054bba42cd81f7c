# The steps of a run, each a function named as it is called: `.ci/run lint docs`, `just lint`.

format() { cargo fmt --all --check; }

lint() { cargo lint; }

docs() { RUSTDOCFLAGS="-D warnings" cargo doc --quiet --ignore-rust-version --locked --workspace --no-deps; }

dependencies() {
  # Advisories are not checked here: their database lies on GitHub, which a closed machine does not reach. `just advisories` does it.
  "$CACHE/bin/cargo-deny" --locked check bans licenses sources
  "$CACHE/bin/cargo-machete" --skip-target-dir "$ROOT"
  "$ROOT/.ci/policies-stay-pure"
}

suite() { SNAPGATE_INSTANTS=10000 SNAPGATE_SCHEDULES=10000 SNAPGATE_FUZZ=1000000 cargo suite; } # the second command of README.md

release() { cargo build --ignore-rust-version --release --locked --package snapgate; } # what its first command builds and runs

checks() { # the last line goes to $verdict instead, for the end of the run
  "$ROOT/.ci/checks/run" | awk -v verdict="$verdict" '/^[0-9]+ passed, [0-9]+ failed$/ { print >verdict; next } { print; fflush() }'
}

title() { # title STEP : what a step is called while it runs
  case $1 in
    format) echo "Format" ;;
    lint) echo "Clippy, warnings as errors" ;;
    docs) echo "Documentation, warnings as errors" ;;
    dependencies) echo "Dependencies: bans, licences, sources, unused crates, what policies may use" ;;
    suite) echo "Test suite (cargo suite)" ;;
    release) echo "Release build of snapgate" ;;
    checks) echo "End to end: real clusters, clients, kills and power cuts" ;;
    *) die "no step '$1'; there are: ${STEPS[*]}" ;;
  esac
}

STEPS=(format lint docs dependencies suite release checks)
