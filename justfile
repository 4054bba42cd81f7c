# The recipes CI runs, by the names CI gives them. `just` alone lists them; `.ci/run` needs no just.

_list:
    @just --list

# run the gateway on the embedded default
serve *arguments:
    cargo snapgate {{arguments}}

# everything a change must pass
ci:
    .ci/run

# formatting, as CI checks it
format:
    .ci/run format

# clippy with warnings as errors
lint:
    .ci/run lint

# documentation with warnings as errors
docs:
    .ci/run docs

# bans, licences, sources, unused crates, what `policies` may use
dependencies:
    .ci/run dependencies

# known advisories; fetches their database from GitHub
advisories:
    "${SNAPGATE_CACHE:-$HOME/.cache/snapgate}/bin/cargo-deny" --locked check advisories

# the test suite
suite:
    .ci/run suite

# end-to-end checks, all or by name: just checks kill_cycles
checks *names:
    .ci/run release
    .ci/check {{names}}

# kill -9 in mid-writes, any number of times, on both kinds of store
kills cycles="300":
    CYCLES={{cycles}} CHECK_PATIENCE=1000 .ci/check kill_cycles

# power cuts on ext4 and XFS, any number of times
power-cuts cycles="100":
    CYCLES={{cycles}} CHECK_PATIENCE=1000 .ci/check power_cut

# the long campaigns, with results in .ci/LONG.md
long:
    .ci/long
