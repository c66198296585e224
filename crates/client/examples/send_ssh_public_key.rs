//! Pushes a public key: `cargo run --example send_ssh_public_key -- i-0123456789abcdef0 ec2-user ~/.ssh/id_ed25519.pub`

use instance_connect_client::{Client, Error, SendSshPublicKey};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [instance, user, file] = arguments.as_slice() else {
        return Err("usage: send_ssh_public_key INSTANCE USER PUBLIC_KEY_FILE".into());
    };
    let key = std::fs::read_to_string(file)?;

    // The region, the endpoint and the credentials come from where the AWS CLI takes them.
    let client = Client::builder().build()?;
    match client.send_ssh_public_key(&SendSshPublicKey::new(instance, user, key.trim_end())).await {
        Ok(_) => Ok(()),
        Err(Error::Ec2InstanceNotFound(fault)) => Err(format!("no such instance: {}", fault.message).into()),
        Err(error) => Err(error.into()),
    }
}
