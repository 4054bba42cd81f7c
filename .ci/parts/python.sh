# The clients that people script with, in a virtual environment of their own.
# An environment cannot be moved once made, so it is made in place and counts only with its stamp.

PYTHON_CLIENTS=(boto3 awscli)

install_python() {
  [ ! -e "$CACHE/python/.complete" ] || return 0
  rm -rf "$CACHE/python"
  python3 -m venv "$CACHE/python"
  retry "$CACHE/python/bin/pip" install --quiet "${PYTHON_CLIENTS[@]}"
  touch "$CACHE/python/.complete"
}
