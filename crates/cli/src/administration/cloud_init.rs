//! A cloud-config that enrols a machine at its first boot.

/// The cloud-config. Whoever can read the machine's user data within 15 minutes, and before the machine itself comes, could
/// enrol in its place; the token is good for one enrolment, so that would not stay unseen.
pub(super) fn cloud_config(server: &str, token: &str) -> String {
    // JSON's strings are YAML's, with every character that could mean something escaped.
    let (server, token) = (serde_json::Value::from(server), serde_json::Value::from(token));
    format!(
        "#cloud-config\n\
         # Good for one machine, within 15 minutes. The package instance-connect-agent has to be installed.\n\
         write_files:\n\
         \x20 - path: /run/instance-connect-join-token\n\
         \x20   permissions: \"0600\"\n\
         \x20   content: {token}\n\
         runcmd:\n\
         \x20 - [instance-connect-agent, install]\n\
         \x20 - [instance-connect-agent, enroll, --server, {server}, --token-file, /run/instance-connect-join-token]\n\
         \x20 - [rm, -f, /run/instance-connect-join-token]\n\
         \x20 - [systemctl, enable, --now, instance-connect-agent.service]"
    )
}

#[cfg(test)]
mod tests {
    use super::cloud_config;

    #[test]
    fn nothing_given_becomes_yaml() {
        let text = cloud_config("https://ic.example.com:8444", "ict1_x");
        assert!(text.starts_with("#cloud-config\n"));
        assert!(text.contains("\n    content: \"ict1_x\"\n"), "{text}");
        assert!(text.contains("--server, \"https://ic.example.com:8444\", --token-file"), "{text}");
        let text = cloud_config("x\", evil]\nruncmd: []", "t");
        assert!(text.contains(r#""x\", evil]\nruncmd: []""#), "{text}");
    }
}
