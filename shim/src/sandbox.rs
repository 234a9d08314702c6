//! The Sandbox service, as far as it goes: it says what to use instead.
//!
//! Owns that answer. A machine begins with a container; a pod's is its pause
//! container, which containerd's own sandbox controller makes.

use std::sync::Arc;

use containerd_shim_protos::sandbox_api::{CreateSandboxRequest, CreateSandboxResponse};
use containerd_shim_protos::sandbox_sync::{Sandbox, create_sandbox};
use ttrpc::{Result, TtrpcContext};

use crate::error::Error;
use crate::task::Methods;

/// The service's methods.
pub(crate) fn service() -> Methods {
    create_sandbox(Arc::new(Service))
}

struct Service;

impl Sandbox for Service {
    fn create_sandbox(
        &self,
        _: &TtrpcContext,
        _: CreateSandboxRequest,
    ) -> Result<CreateSandboxResponse> {
        let text = "caisson's pods begin with a pause container: set sandboxer = \"podsandbox\" for this runtime";
        Err(Error::Unimplemented(text.to_owned()).into())
    }
}
