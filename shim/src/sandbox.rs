//! The Sandbox service: a pod's machine before its first container.
//!
//! ```text
//! CreateSandbox -> StartSandbox -> (Task service: containers) -> StopSandbox -> ShutdownSandbox
//! ```
//! Owns the translation, and which container is the sandbox: one whose program only
//! waits, created as any other, but without task events.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use caisson::config::installation::Installation;
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
    WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_sync::{Sandbox, create_sandbox};
use containerd_shim_protos::types::platform::Platform;
use nix::sys::signal::Signal;
use ttrpc::{Result, TtrpcContext};

use crate::container::Container;
use crate::containers::Containers;
use crate::error::Error;
use crate::options::{self, Options};
use crate::pod;
use crate::process::{Exit, Phase};
use crate::task::{self, Methods};

/// Where a request has no limit.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// States as the Container Runtime Interface names them.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The service's methods.
pub(crate) fn service(containers: &Arc<Containers>, stop: &Sender<()>) -> Methods {
    create_sandbox(Arc::new(SandboxService {
        containers: Arc::clone(containers),
        stop: stop.clone(),
        created: Mutex::default(),
    }))
}

struct SandboxService {
    containers: Arc<Containers>,
    stop: Sender<()>,
    /// The sandbox's name, and the time of its creation.
    created: Mutex<Option<(String, SystemTime)>>,
}

impl SandboxService {
    fn create(&self, request: &CreateSandboxRequest) -> std::result::Result<(), Error> {
        let mut created = self.created();
        if let Some((id, _)) = &*created {
            return Err(Error::AlreadyExists(format!("sandbox {id} already exists")));
        }
        let bundle = Path::new(&request.bundle_path);
        let runtime = options::saved(bundle)?;
        let config = Options::of(runtime.as_ref(), bundle)?.config;
        let pause = Installation::find(config.as_deref())
            .and_then(|installation| installation.helper("caisson-pause"))
            .map_err(|err| Error::Failed(caisson::log::error_line::chain(&err)))?;
        let bundle = pod::write_bundle(request, self.containers.namespace(), &pause)?;
        let task = CreateTaskRequest {
            id: request.sandbox_id.clone(),
            bundle: bundle.display().to_string(),
            options: runtime.into(),
            ..Default::default()
        };
        self.containers.create_silently(&task)?;
        *created = Some((request.sandbox_id.clone(), SystemTime::now()));
        Ok(())
    }

    /// The container of the sandbox of this name, and the time of its creation.
    fn find(&self, id: &str) -> std::result::Result<(Arc<Container>, SystemTime), Error> {
        match &*self.created() {
            Some((created, at)) if created == id => Ok((self.containers.find(id)?, *at)),
            _ => Err(Error::NotFound(format!("sandbox {id} not found"))),
        }
    }

    fn created(&self) -> MutexGuard<'_, Option<(String, SystemTime)>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the sandbox: by SIGTERM, and by SIGKILL after `limit`.
fn stop(container: &Container, limit: Duration) -> std::result::Result<Exit, Error> {
    let signal = match container.init.phase() {
        Phase::Stopped(exit) => return Ok(exit),
        // No program handles a signal yet.
        Phase::Added | Phase::Starting | Phase::Created => Signal::SIGKILL,
        Phase::Running => Signal::SIGTERM,
    };
    send(container, signal)?;
    if let Some(exit) = container.init.wait_for(limit) {
        return Ok(exit);
    }
    send(container, Signal::SIGKILL)?;
    Ok(container.init.wait())
}

/// Sends a signal; a sandbox that has just ended needs none.
fn send(container: &Container, signal: Signal) -> std::result::Result<(), Error> {
    match container.kill("", signal as i32, false) {
        Err(Error::NotFound(_)) => Ok(()),
        sent => sent,
    }
}

/// The architecture as Go and OCI call it; most have one name everywhere.
fn go_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Sandbox for SandboxService {
    fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> Result<CreateSandboxResponse> {
        self.create(&request)?;
        Ok(CreateSandboxResponse::default())
    }

    fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> Result<StartSandboxResponse> {
        let (container, created_at) = self.find(&request.sandbox_id)?;
        Ok(StartSandboxResponse {
            pid: container.start("")?,
            created_at: Some(created_at.into()).into(),
            ..Default::default()
        })
    }

    fn platform(&self, _: &TtrpcContext, request: PlatformRequest) -> Result<PlatformResponse> {
        self.find(&request.sandbox_id)?;
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: go_name(std::env::consts::ARCH).to_owned(),
            ..Default::default()
        };
        Ok(PlatformResponse {
            platform: Some(platform).into(),
            ..Default::default()
        })
    }

    fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> Result<StopSandboxResponse> {
        let (container, _) = self.find(&request.sandbox_id)?;
        let limit = match request.timeout_secs {
            0 => STOP_LIMIT,
            limit_s => Duration::from_secs(limit_s.into()),
        };
        stop(&container, limit)?;
        Ok(StopSandboxResponse::default())
    }

    fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> Result<WaitSandboxResponse> {
        let exit = self.find(&request.sandbox_id)?.0.init.wait();
        Ok(WaitSandboxResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        })
    }

    fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> Result<SandboxStatusResponse> {
        let (container, created_at) = self.find(&request.sandbox_id)?;
        let phase = container.init.phase();
        let mut status = SandboxStatusResponse {
            sandbox_id: request.sandbox_id,
            pid: container.init.pid(),
            state: NOT_READY.to_owned(),
            created_at: Some(created_at.into()).into(),
            ..Default::default()
        };
        match phase {
            Phase::Running => READY.clone_into(&mut status.state),
            Phase::Stopped(exit) => status.exited_at = Some(exit.at.into()).into(),
            Phase::Added | Phase::Starting | Phase::Created => {}
        }
        Ok(status)
    }

    fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> Result<PingResponse> {
        self.find(&request.sandbox_id)?;
        Ok(PingResponse::default())
    }

    fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        _: ShutdownSandboxRequest,
    ) -> Result<ShutdownSandboxResponse> {
        // A sandbox whose creation has failed is shut down too.
        self.containers.end_all();
        *self.created() = None;
        self.stop.send(()).ok();
        Ok(ShutdownSandboxResponse::default())
    }

    fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> Result<SandboxMetricsResponse> {
        let (container, _) = self.find(&request.sandbox_id)?;
        let mut response = SandboxMetricsResponse::default();
        let metric = response.metrics.mut_or_insert_default();
        metric.timestamp = Some(SystemTime::now().into()).into();
        metric.id = request.sandbox_id;
        metric.data = Some(task::statistics(&container)?).into();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_the_name_that_go_gives_it() {
        let names = ["x86_64", "aarch64", "riscv64"].map(go_name);
        assert_eq!(names, ["amd64", "arm64", "riscv64"]);
    }
}
