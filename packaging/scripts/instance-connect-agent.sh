# after_install first|upgrade: sshd stays as it is until somebody runs `instance-connect-agent install`.
after_install() {
  make_users /usr/lib/sysusers.d/instance-connect-agent.conf
  make_directories /usr/lib/tmpfiles.d/instance-connect-agent.conf
  take_up_units "$1"
}

# sshd is put back while the program that knows how is still there. Where that fails the package stays.
before_remove() {
  instance-connect-agent uninstall
  ! systemd_runs || systemctl stop @UNITS@
  ! command -v systemctl >/dev/null || systemctl disable @UNITS@
}

after_remove() { forget_units; }

purge() {
  for name in instance-id anchors host.toml lines.toml metadata.toml installed.json lock .new; do
    rm -f "/etc/instance-connect/$name"
  done
  rm -rf /var/lib/instance-connect-agent
  rmdir --ignore-fail-on-non-empty /etc/instance-connect 2>/dev/null || true
  echo "instance-connect-agent: kept: the users instance-connect-agent and instance-connect-keys"
}
