"""What `deploy/` hands out works: the unit is as closed as it claims, the example configuration is accepted."""

import os
import subprocess

from rig.check import CI, expect, main, promise
from rig.gateway import Gateway, Store, program
from rig.process import free_port, run
from rig.s3 import Account

DEPLOY = CI.parent / "deploy"
EXPOSURE = 15  # tenths; systemd's own scale ends at 100


@promise
def the_systemd_unit_is_hardened(bench):
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", DEPLOY / "systemd/snapgate.service")


@promise
def the_example_configuration_is_accepted(bench):
    secrets, text = bench.folder("secrets"), (DEPLOY / "snapgate.toml").read_text()
    for name in ("admin-token", "prod"):
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text("0123456789abcdef0123456789abcdef\n")
    for written, here in (("/run/credentials/snapgate.service", secrets), ("/var/lib/snapgate", bench.folder("state")),
                          ("0.0.0.0:9000", f"127.0.0.1:{free_port()}"), ("127.0.0.1:9001", f"127.0.0.1:{free_port()}")):
        expect(f"the example names {written}", written in text, True)
        text = text.replace(written, str(here))
    bench.folder("state/backups")
    (bench.dir / "snapgate.toml").write_text(text)
    checked = subprocess.run([program(), "check-config"], env={**os.environ, "SNAPGATE_CONFIG": str(bench.dir / "snapgate.toml")},
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    expect(f"exit code of check-config: {checked.stdout}{checked.stderr}", checked.returncode, 0)


@promise
def check_config_says_why_a_store_cannot_be_used(bench):
    gateway = Gateway(bench, "away", Store.service(Account(free_port(), "key", "store-secret-0123456789", "gone")))
    checked = subprocess.run([program(), "check-config"], env={**os.environ, "SNAPGATE_CONFIG": str(gateway.config)},
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    expect(f"exit code of check-config: {checked.stdout}{checked.stderr}", checked.returncode, 1)
    expect(f"it names the store and the cause: {checked.stderr}", "behind (" in checked.stderr and "no connection" in checked.stderr, True)


main()
