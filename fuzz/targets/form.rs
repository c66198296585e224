//! A request of EC2's query API or STS's: the form, the operation with its parameters, and what stands of them on record.
#![no_main]

use instance_connect_core::api::{ApiError, Protocol};
use instance_connect_core::limits;
use instance_connect_core::query::{Parameters, Request, Service};
use instance_connect_core::sigv4::Query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, form)) = bytes.split_first() else { return };
    if form.len() > limits::API_BODY {
        return;
    }
    let service = Service::ALL[usize::from(first % 2)];
    match Parameters::read(&Query::default(), form) {
        Ok(parameters) => operation(service, parameters),
        Err(error) => check(service, &error),
    }
});

fn operation(service: Service, mut parameters: Parameters) {
    let request = parameters.operation(service).and_then(|operation| Request::read(operation, parameters));
    match request {
        Ok(request) => {
            assert!(request.instances().len() <= limits::INSTANCES_CHANGED);
            assert!(request.tags_for(None).len() <= limits::QUERY_PARAMETERS);
            assert!(request.recorded().to_string().len() < 256 * 1024);
        }
        Err(error) => check(service, &error),
    }
}

/// What was refused is refused in bounded words.
fn check(service: Service, error: &ApiError) {
    let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().expect("a request id");
    let wire = error.to_wire(Protocol::Query(service), &request);
    assert_eq!(wire.status, 400);
    assert!(wire.message.len() <= 4 * 1024 && wire.body.starts_with("<?xml"));
}
