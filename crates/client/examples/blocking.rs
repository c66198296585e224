//! The same without asynchronous code, for a service at an address of its own:
//! `cargo run --example blocking -- http://127.0.0.1:8080 i-0123456789abcdef0 ec2-user ~/.ssh/id_ed25519.pub`

use instance_connect_client::{SendSshPublicKey, blocking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint_url, instance, user, file] = arguments.as_slice() else {
        return Err("usage: blocking URL INSTANCE USER PUBLIC_KEY_FILE".into());
    };
    let key = std::fs::read_to_string(file)?;

    let builder = blocking::Client::builder().region("us-east-1").endpoint_url(endpoint_url);
    let client = builder.build_blocking()?;
    let answer = client.send_ssh_public_key(&SendSshPublicKey::new(instance, user, key.trim_end()))?;
    if answer.success { Ok(()) } else { Err("the key is not in place".into()) }
}
