# Debian packages: the XFS tools for the power-cut rig, nginx as a peer, PostgreSQL for several gateways, unzip for distributions, strace for slow disks, JDKs and a native library for the clusters.

install_system() {
  local missing=()
  command -v mkfs.xfs >/dev/null || missing+=(xfsprogs)
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
  command -v nginx >/dev/null || missing+=(nginx-light)
  command -v unzip >/dev/null || missing+=(unzip)
  command -v strace >/dev/null || missing+=(strace)
  command -v setpriv >/dev/null || missing+=(util-linux)
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing+=(postgresql)
  command -v mvn >/dev/null || missing+=(maven)
  [ -e /usr/lib/x86_64-linux-gnu/libzstd.so.1 ] || missing+=(libzstd1)
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  [ ${#missing[@]} -gt 0 ] || return 0
  retry apt-get update -qq
  DEBIAN_FRONTEND=noninteractive retry apt-get install -yqq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}
