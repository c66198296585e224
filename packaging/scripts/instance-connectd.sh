# after_install first|upgrade
after_install() {
  make_users /usr/lib/sysusers.d/instance-connectd.conf
  make_directories /usr/lib/tmpfiles.d/instance-connectd.conf
  take_up_units "$1"
}

before_remove() {
  ! systemd_runs || systemctl stop @UNITS@
  ! command -v systemctl >/dev/null || systemctl disable @UNITS@
}

after_remove() { forget_units; }

# The inventory and its key go, and with them every way in. The record of who did what stays.
purge() {
  rm -f /etc/instance-connect/instance-connectd.toml /etc/instance-connect/master.key /etc/instance-connect/ca.pem
  # A key that was to be the next one.
  rm -f /etc/instance-connect/master.key.next*
  if [ -d /var/lib/instance-connect ]; then
    find /var/lib/instance-connect ! -type d ! -path '/var/lib/instance-connect/audit*' ! -name 'audit*' -delete
    # Not those in which a log was kept.
    find /var/lib/instance-connect -mindepth 1 -type d -empty -delete
  fi
  rmdir --ignore-fail-on-non-empty /etc/instance-connect /var/lib/instance-connect 2>/dev/null || true
  [ ! -d /var/lib/instance-connect ] || echo "instance-connectd: kept: the audit log in /var/lib/instance-connect"
  echo "instance-connectd: kept: the user instance-connect, and whatever was configured to lie elsewhere"
}
