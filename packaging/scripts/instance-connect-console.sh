# after_install first|upgrade: the control plane's user is there, since its package is.
after_install() {
  make_users /usr/lib/sysusers.d/instance-connect-console.conf
  make_directories /usr/lib/tmpfiles.d/instance-connect-console.conf
  take_up_units "$1"
}

before_remove() {
  ! systemd_runs || systemctl stop @UNITS@
  ! command -v systemctl >/dev/null || systemctl disable @UNITS@
}

after_remove() { forget_units; }

# The host keys go: people's known_hosts know no other. What is in the other directory is the control plane's.
purge() {
  rm -rf /var/lib/instance-connect-console
  rmdir --ignore-fail-on-non-empty /run/instance-connect-console 2>/dev/null || true
  echo "instance-connect-console: kept: the user instance-connect-console"
}
