# rustfmt and clippy of the installed toolchain, and the two cargo commands that look at dependencies.
# Their versions are fixed: a lint that appears overnight is not a change of ours.

CARGO_DENY=0.20.2
CARGO_MACHETE=0.9.2

cargo_tool() { # cargo_tool FOLDER CRATE VERSION
  # they run for a second each: what optimising them takes is never earned back
  retry nice -n 5 env CARGO_TARGET_DIR="$1/target" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --root "$1" --version "$3" "$2"
  rm -rf "$1/target"
}

install_rust() {
  local component
  for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
  done
  place "cargo-deny-$CARGO_DENY" cargo_tool cargo-deny "$CARGO_DENY"
  place "cargo-machete-$CARGO_MACHETE" cargo_tool cargo-machete "$CARGO_MACHETE"
  ln -sfn "$CACHE/cargo-deny-$CARGO_DENY/bin/cargo-deny" "$CACHE/bin/cargo-deny"
  ln -sfn "$CACHE/cargo-machete-$CARGO_MACHETE/bin/cargo-machete" "$CACHE/bin/cargo-machete"
}
