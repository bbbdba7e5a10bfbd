# Sourced by scripts/train and scripts/test: the project's own Python environment.
#
# prepare_environment ROOT EXTRA leaves an environment in ROOT/.venv with the package
# and its optional EXTRA ("" for none) installed, and installs only what has changed.

prepare_environment() {
  local root=$1 extra=$2 python=${PYTHON:-python3} venv=$1/.venv
  if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
    echo "Python 3.10 to 3.13 is needed; set PYTHON to one, for instance PYTHON=python3.12 $0" >&2
    return 1
  fi
  if [ ! -x "$venv/bin/python" ]; then
    if ! "$python" -m venv "$venv"; then
      rm -rf "$venv"
      echo "No environment could be made in $venv; on Debian and Ubuntu install python3-venv" >&2
      return 1
    fi
  fi
  # The stamp holds what was installed; dev has everything that no extra has, too.
  local stamp=$venv/installed${extra:+-$extra}
  if ! cmp -s "$root/pyproject.toml" "$stamp" &&
     ! { [ -z "$extra" ] && cmp -s "$root/pyproject.toml" "$venv/installed-dev"; }; then
    echo "Installing into $venv (about a minute)"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable "$root${extra:+[$extra]}"; then
      echo "The installation failed; it needs a network and 3 GB of disk. Run $0 again to go on" >&2
      return 1
    fi
    cp "$root/pyproject.toml" "$stamp"
  fi
}
