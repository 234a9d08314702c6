//! The Task service, versions 2 and 3, which have the same messages under two names:
//! one method per call, which translates the request and calls the container.
//!
//! Owns the translation alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::{Task, create_task};
use protobuf::MessageFull;
use protobuf::well_known_types::any::Any;
use ttrpc::{MethodHandler, Result, TtrpcContext};

use crate::container::Container;
use crate::containers::Containers;
use crate::error::Error;
use crate::metrics::metrics;
use crate::process::{Exit, Phase, Process};
use crate::stdio::StreamNames;

/// Methods by their paths, as ttrpc's server takes them.
pub(crate) type Methods = HashMap<String, Box<dyn MethodHandler + Send + Sync>>;

/// Both versions of the service, over `containers`.
pub(crate) fn services(containers: &Arc<Containers>, stop: &Sender<()>) -> Methods {
    let service = || {
        create_task(Arc::new(TaskService {
            containers: Arc::clone(containers),
            stop: stop.clone(),
        }))
    };
    let older = service().into_iter();
    let older = older.map(|(path, method)| (path.replace(".v3.", ".v2."), method));
    service().into_iter().chain(older).collect()
}

struct TaskService {
    containers: Arc<Containers>,
    stop: Sender<()>,
}

impl TaskService {
    /// Calls `call` with the init, or the exec, that a request names.
    fn with_process<T>(
        &self,
        id: &str,
        exec_id: &str,
        call: impl FnOnce(&Container, &Process) -> T,
    ) -> std::result::Result<T, Error> {
        let container = self.containers.find(id)?;
        if exec_id.is_empty() {
            return Ok(call(&container, &container.init));
        }
        let exec = container.exec(exec_id)?;
        Ok(call(&container, &exec))
    }
}

impl Task for TaskService {
    fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        Ok(CreateTaskResponse {
            pid: self.containers.create(&request)?,
            ..Default::default()
        })
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let container = self.containers.find(&request.id)?;
        Ok(StartResponse {
            pid: container.start(&request.exec_id)?,
            ..Default::default()
        })
    }

    fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let container = self.containers.find(&request.id)?;
        let names = StreamNames {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        container.add_exec(&request.exec_id, names, &request.spec.value)?;
        Ok(Empty::default())
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        Ok(self.with_process(&request.id, &request.exec_id, state)?)
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let container = self.containers.find(&request.id)?;
        let exit = if request.exec_id.is_empty() {
            container.init.wait()
        } else {
            container.exec(&request.exec_id)?.wait()
        };
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        })
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let container = self.containers.find(&request.id)?;
        let signal = i32::try_from(request.signal).unwrap_or(i32::MAX);
        container.kill(&request.exec_id, signal, request.all)?;
        Ok(Empty::default())
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.containers.find(&request.id)?;
        let (pid, exit) = if request.exec_id.is_empty() {
            let deleted = container.delete()?;
            self.containers.remove(&request.id);
            deleted
        } else {
            container.delete_exec(&request.exec_id)?
        };
        Ok(deleted(pid, exit))
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.containers.find(&request.id)?;
        let process = |(pid, exec_id): (u32, String)| {
            let details = ProcessDetails {
                exec_id,
                ..Default::default()
            };
            let details = (!details.exec_id.is_empty()).then(|| any(&details));
            ProcessInfo {
                pid,
                info: details.into(),
                ..Default::default()
            }
        };
        Ok(PidsResponse {
            processes: container.pids().into_iter().map(process).collect(),
            ..Default::default()
        })
    }

    fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        self.containers.find(&request.id)?.pause()?;
        Ok(Empty::default())
    }

    fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        self.containers.find(&request.id)?.resume()?;
        Ok(Empty::default())
    }

    fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Result<Empty> {
        let text = "CRIU can't save a machine";
        Err(Error::Unimplemented(text.to_owned()).into())
    }

    fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let (rows, columns) = (cells(request.height), cells(request.width));
        self.with_process(&request.id, &request.exec_id, |_, process| {
            process.resize(rows, columns)
        })??;
        Ok(Empty::default())
    }

    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        if request.stdin {
            self.with_process(&request.id, &request.exec_id, |_, process| {
                process.close_input()
            })?;
        }
        Ok(Empty::default())
    }

    fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let container = self.containers.find(&request.id)?;
        let resources = serde_json::from_slice(&request.resources.value)
            .map_err(|err| Error::Invalid(format!("resources: {err}")))?;
        container.library.update(&resources).map_err(Error::from)?;
        Ok(Empty::default())
    }

    fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.containers.find(&request.id)?;
        Ok(StatsResponse {
            stats: Some(statistics(&container)?).into(),
            ..Default::default()
        })
    }

    fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        // As with runc's shim, a request for the server's pid needs no container.
        let container = self.containers.find(&request.id).ok();
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: container.map_or(0, |container| container.init.pid()),
            ..Default::default()
        })
    }

    fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        if request.now || self.containers.is_empty() {
            self.stop.send(()).ok();
        }
        Ok(Empty::default())
    }
}

fn state(container: &Container, process: &Process) -> StateResponse {
    let phase = process.phase();
    let mut state = StateResponse {
        id: container.id.clone(),
        bundle: container.bundle.display().to_string(),
        pid: process.pid(),
        stdin: process.names.stdin.clone(),
        stdout: process.names.stdout.clone(),
        stderr: process.names.stderr.clone(),
        terminal: process.names.terminal,
        exec_id: process.exec_id.clone(),
        ..Default::default()
    };
    let status = match phase {
        Phase::Added | Phase::Starting | Phase::Created => Status::CREATED,
        Phase::Running if container.is_paused() => Status::PAUSED,
        Phase::Running => Status::RUNNING,
        Phase::Stopped(exit) => {
            state.exit_status = exit.status;
            state.exited_at = Some(exit.at.into()).into();
            Status::STOPPED
        }
    };
    state.status = status.into();
    state
}

/// The statistics of a container, in the form of cgroup v2.
pub(crate) fn statistics(container: &Container) -> std::result::Result<Any, Error> {
    Ok(any(&metrics(&container.library.statistics()?)))
}

/// The response for a container or exec that was deleted.
pub(crate) fn deleted(pid: u32, exit: Exit) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: exit.status,
        exited_at: Some(exit.at.into()).into(),
        ..Default::default()
    }
}

/// A message under its bare type name, which Go's code expects.
fn any<M: MessageFull>(message: &M) -> Any {
    Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    }
}
