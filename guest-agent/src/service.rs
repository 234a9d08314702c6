//! The protocol's calls, each handed to the guest.
//!
//! Owns the translation of requests and errors, and nothing else. A call runs
//! to its end even if the connection that brought it is lost.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use caisson_protocol::{
    PROTOCOL_MAJOR, PROTOCOL_MINOR, check_version,
    server::{
        agent::{
            AdjustClockRequest, Clock, ConnectLocalRequest, ContainerRequest,
            CreateContainerRequest, DeleteContainerRequest, Empty, Event, ExecRequest,
            HelloRequest, HelloResponse, ListProcessesResponse, NetworkConfiguration,
            NextEventRequest, ProcessStarted, ResizeRequest, SignalRequest, Statistics,
            UpdateContainerRequest,
        },
        agent_ttrpc::Agent,
    },
};
use nix::unistd::Pid;
use rustix::{
    system::uname,
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use tokio::sync::Notify;
use ttrpc::{Code, Status, r#async::TtrpcContext};

use crate::{
    arch,
    failure::{Attempt, Failure},
    guest::Guest,
    sys::{slew_clock, step_clock},
};

/// The protocol's service.
#[derive(Debug)]
pub(crate) struct Service {
    /// What the calls act on.
    pub(crate) guest: Arc<Guest>,
    /// Notified when the connection has ended.
    pub(crate) hung_up: Arc<Notify>,
}

impl Service {
    async fn run<T, F>(&self, call: impl FnOnce(Arc<Guest>) -> F) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let outcome = tokio::spawn(call(Arc::clone(&self.guest))).await;
        match outcome {
            Ok(outcome) => outcome.map_err(|failure| to_ttrpc(&failure)),
            Err(ended) => Err(status(Code::INTERNAL, ended.to_string())),
        }
    }
}

/// The error of a call, as the host gets it.
fn status(code: Code, message: String) -> ttrpc::Error {
    let mut status = Status::new();
    status.set_code(code);
    status.set_message(message);
    ttrpc::Error::RpcStatus(status)
}

fn to_ttrpc(failure: &Failure) -> ttrpc::Error {
    let code = match failure {
        Failure::Missing(_) => Code::NOT_FOUND,
        Failure::Refused(_) | Failure::Json { .. } => Code::INVALID_ARGUMENT,
        Failure::Path { .. } | Failure::Step { .. } => Code::UNKNOWN,
    };
    status(code, failure.line())
}

fn started(pid: Pid) -> ProcessStarted {
    ProcessStarted {
        guest_pid: pid.as_raw().unsigned_abs(),
        ..Default::default()
    }
}

/// A tenth of a second.
const NEARLY_RIGHT_NS: i128 = 100_000_000;

/// A clock that is nearly right is left alone: programs don't like time to jump.
fn set_clock(unix_ns: u64) -> Result<(), Failure> {
    let own = clock_gettime(ClockId::Realtime);
    let own_ns = i128::from(own.tv_sec) * 1_000_000_000 + i128::from(own.tv_nsec);
    if (i128::from(unix_ns) - own_ns).abs() < NEARLY_RIGHT_NS {
        return Ok(());
    }
    let now = Timespec {
        tv_sec: i64::try_from(unix_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(unix_ns % 1_000_000_000).unwrap_or(0),
    };
    clock_settime(ClockId::Realtime, now).step("set the clock")
}

fn adjust_clock(request: &AdjustClockRequest) -> Result<u64, Failure> {
    match (request.by_ns, request.slew) {
        (0, _) => {}
        (by_ns, true) => slew_clock(by_ns).step("slew the clock")?,
        (by_ns, false) => step_clock(by_ns).step("set the clock")?,
    }
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    Ok(seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds))
}

#[async_trait]
impl Agent for Service {
    async fn hello(&self, _: &TtrpcContext, request: HelloRequest) -> ttrpc::Result<HelloResponse> {
        check_version(request.protocol_major)
            .map_err(|mismatch| status(Code::FAILED_PRECONDITION, mismatch.to_string()))?;
        if request.unix_time_ns != 0 {
            set_clock(request.unix_time_ns).map_err(|failure| to_ttrpc(&failure))?;
        }
        self.guest.transport.set_token(request.token);
        Ok(HelloResponse {
            protocol_major: PROTOCOL_MAJOR,
            protocol_minor: PROTOCOL_MINOR,
            kernel_release: uname().release().to_string_lossy().into_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<ProcessStarted> {
        self.run(|guest| async move { guest.create(&request).await.map(started) })
            .await
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.start(&request.container_id).await })
            .await?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> ttrpc::Result<ProcessStarted> {
        self.run(|guest| async move { guest.exec(&request).await.map(started) })
            .await
    }

    async fn signal(&self, _: &TtrpcContext, request: SignalRequest) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.signal(&request) })
            .await?;
        Ok(Empty::new())
    }

    async fn resize(&self, _: &TtrpcContext, request: ResizeRequest) -> ttrpc::Result<Empty> {
        self.run(|guest| async move {
            guest.resize(
                &request.container_id,
                &request.exec_id,
                request.rows,
                request.columns,
            )
        })
        .await?;
        Ok(Empty::new())
    }

    async fn list_processes(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<ListProcessesResponse> {
        let processes = self
            .run(|guest| async move { guest.processes(&request.container_id) })
            .await?;
        Ok(ListProcessesResponse {
            processes,
            ..Default::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: ContainerRequest) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.set_frozen(&request.container_id, true).await })
            .await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ContainerRequest) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.set_frozen(&request.container_id, false).await })
            .await?;
        Ok(Empty::new())
    }

    async fn update_container(
        &self,
        _: &TtrpcContext,
        request: UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.run(
            |guest| async move { guest.update(&request.container_id, &request.oci_resources) },
        )
        .await?;
        Ok(Empty::new())
    }

    async fn get_statistics(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<Statistics> {
        self.run(|guest| async move { guest.statistics(&request.container_id) })
            .await
    }

    async fn configure_network(
        &self,
        _: &TtrpcContext,
        request: NetworkConfiguration,
    ) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.configure_network(request) })
            .await?;
        Ok(Empty::new())
    }

    async fn connect_local(
        &self,
        _: &TtrpcContext,
        request: ConnectLocalRequest,
    ) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.connect_local(&request).await })
            .await?;
        Ok(Empty::new())
    }

    async fn delete_container(
        &self,
        _: &TtrpcContext,
        request: DeleteContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.run(|guest| async move { guest.delete(&request.container_id, &request.shares).await })
            .await?;
        Ok(Empty::new())
    }

    async fn adjust_clock(
        &self,
        _: &TtrpcContext,
        request: AdjustClockRequest,
    ) -> ttrpc::Result<Clock> {
        // Without an await: another call could come between the reading and the reply.
        let unix_time_ns = adjust_clock(&request).map_err(|failure| to_ttrpc(&failure))?;
        Ok(Clock {
            unix_time_ns,
            ..Default::default()
        })
    }

    async fn next_event(
        &self,
        _: &TtrpcContext,
        request: NextEventRequest,
    ) -> ttrpc::Result<Event> {
        Ok(self.guest.events.next(request.after).await)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        self.guest.kill_all().await;
        rustix::fs::sync();
        let hung_up = Arc::clone(&self.hung_up);
        tokio::spawn(async move {
            // Until the host has the reply, after which it hangs up.
            drop(tokio::time::timeout(REPLY_TIME, hung_up.notified()).await);
            arch::power_off();
        });
        Ok(Empty::new())
    }
}

/// For a host that doesn't hang up; ample for one packet.
const REPLY_TIME: Duration = Duration::from_millis(100);
