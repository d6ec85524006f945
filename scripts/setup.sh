# Sourced by the other scripts: makes .venv and installs this package with the extras in $1.
# Installs again only when pyproject.toml or the extras have changed.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup() {
  local extras="$1" stamp
  local python="${PYTHON:-python3}"
  if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
    echo "bert_tf needs Python 3.11 to 3.13; set PYTHON to one of them" \
      "(found: $("$python" --version 2>&1))" >&2
    return 1
  fi
  if [ ! -x .venv/bin/python ]; then
    echo "== Making .venv with $("$python" --version)"
    "$python" -m venv .venv || {
      rm -rf .venv
      echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2
      return 1
    }
  fi
  stamp="$extras $(.venv/bin/python -c \
    'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')"
  if [ "$(cat .venv/installed"$extras" 2>/dev/null)" != "$stamp" ]; then
    echo "== Installing bert_tf$extras and its requirements (about a minute, 2.5 GB)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extras"
    echo "$stamp" > .venv/installed"$extras"
  fi
}
