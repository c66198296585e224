# Sourced by ./quickstart and ./test: installs what they need on Debian and its relatives, and says so.
# What can be kept inside the working tree is; the rest are the distribution's own packages.

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# install PACKAGE...: as root, or through sudo where that asks for no password.
install() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  command -v apt-get >/dev/null || return 1
  say "installing $* (apt-get)"
  # A service must not start because a test needs its program.
  local guard=/usr/sbin/policy-rc.d guarded=
  if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$guard" >/dev/null && "${as_root[@]}" chmod 755 "$guard" && guarded=yes
  fi
  local status=0
  { "${as_root[@]}" apt-get -qq update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends --yes "$@"; } >/dev/null || status=$?
  [ -z "$guarded" ] || "${as_root[@]}" rm -f "$guard"
  return "$status"
}

# need PROGRAM PACKAGE...: the program, or the packages that bring it.
need() {
  local program=$1
  shift
  # Ordinary users' PATH leaves system programs out.
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null && return
  install "$@" || fail "$program is missing. Install it (Debian: apt-get install $*), then run this again."
}

need_rust() {
  command -v cargo >/dev/null || fail "cargo is missing. Install Rust 1.95 or newer (https://rustup.rs), then run this again."
  need cc gcc libc6-dev
}

# An OpenSSH server to run, not to serve this machine: without root it is unpacked below target/.
need_sshd() {
  need ssh openssh-client
  sshd=$(PATH="$PATH:/usr/sbin:/sbin" command -v sshd) && return
  if install openssh-server; then
    sshd=/usr/sbin/sshd
    echo "openssh-server was installed and its service not started; 'systemctl disable ssh' keeps it so after a restart."
    return
  fi
  sshd=$PWD/target/openssh/usr/sbin/sshd
  [ -x "$sshd" ] && return
  say "unpacking an OpenSSH server below target/ (no root here)"
  mkdir -p target/openssh
  (cd target/openssh && apt-get -qq download openssh-server >/dev/null && dpkg-deb -x openssh-server_*.deb . && rm -f openssh-server_*.deb) ||
    fail "sshd is missing. Install it (Debian: apt-get install openssh-server), then run this again."
  ! ldd "$sshd" | grep 'not found' || fail "sshd lacks the libraries above. Install openssh-server, then run this again."
}

# AWS's SDK for Go and a compiler for it. The distribution's packages hold sources: nothing is downloaded to build them.
need_aws_sdk_for_go() {
  go_packages=/usr/share/gocode
  need go golang-go
  [ -d "$go_packages/src/github.com/aws/aws-sdk-go-v2" ] || install golang-github-aws-aws-sdk-go-v2-dev ||
    fail "the AWS SDK for Go is missing. Install it (Debian: apt-get install golang-github-aws-aws-sdk-go-v2-dev), then run this again."
}

# A clean Debian system with what our packages depend on, from where this machine has its packages, into $clean_root: there
# is no network in it. It takes a minute, once. Without root there is none, and the tests of packages are skipped.
need_clean_root() {
  clean_root=$PWD/target/clean-root
  [ "$(id -u)" -eq 0 ] || { clean_root=; return 0; }
  local include=iproute2,openssh-server,sqlite3,systemd
  [ "$(cat "$clean_root.packages" 2>/dev/null)" != "$include" ] || return 0
  need debootstrap debootstrap
  need ip iproute2
  say "a clean Debian system in target/clean-root (debootstrap)"
  local suite mirror
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(LABEL)' "Created-By: Packages" "Codename: $suite" "Label: Debian" | cut -d ' ' -f 1 | head -n 1)
  rm -rf "$clean_root" "$clean_root.new" "$clean_root.packages"
  debootstrap --variant=minbase "--include=$include" "$suite" "$clean_root.new" "$mirror" >"$PWD/target/debootstrap.log" ||
    fail "debootstrap: see target/debootstrap.log"
  mv "$clean_root.new" "$clean_root"
  echo "$include" >"$clean_root.packages"
}

# Python clients in an environment of their own below target/, made anew when the list of them changes.
need_python_clients() {
  venv=$PWD/target/venv
  cmp -s e2e/requirements.txt "$venv/requirements.txt" && return
  need python3 python3 python3-venv
  say "installing the AWS clients of e2e/requirements.txt into target/venv"
  rm -rf "$venv"
  if ! python3 -m venv "$venv" >/dev/null 2>&1; then
    install python3-venv && rm -rf "$venv" && python3 -m venv "$venv" ||
      fail "python3 cannot make a virtual environment. Install it (Debian: apt-get install python3-venv), then run this again."
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement e2e/requirements.txt
  cp e2e/requirements.txt "$venv/requirements.txt"
}

# The programs, built for the profile named ("dev" or "release") into $programs.
build() {
  local profile=$1 folder=$1
  [ "$profile" = dev ] && folder=debug
  programs=$PWD/target/$folder
  if [ "$profile" = release ]; then
    # A panic of the gateway's SSH library ends one connection: that program is not of the profile that aborts.
    cargo build --quiet --locked --release --workspace --exclude instance-connect-console --bins
    cargo build --quiet --locked --profile release-unwind --package instance-connect-console --bins
    cp target/release-unwind/instance-connect-console "$programs/"
  else
    cargo build --quiet --locked --profile "$profile" --bins
  fi
  # What sshd starts, for each key and for each login, is linked statically: it starts in a third of the time.
  local program
  for program in instance-connect-authorized-keys instance-connect-session; do
    cargo rustc --quiet --locked --profile "$profile" --package instance-connect-authorized-keys --bin "$program" -- \
      -C target-feature=+crt-static
  done
}
