//! Calls that newer containerds make and this server does not serve, by their names.
//!
//! Owns the answer. ttrpc's own, for names it has never heard of, is "invalid
//! argument", which containerd takes for a failure; where it may go on without, it
//! looks for "unimplemented".

use ttrpc::{Code, MethodHandler, Request, Response, Result, TtrpcContext, get_status};

use crate::task::Methods;

/// Of containerd 2.4: the pod's resources have changed.
const PATHS: [&str; 1] = ["/containerd.runtime.sandbox.v1.Sandbox/UpdateSandbox"];

/// These calls as methods.
pub(crate) fn methods() -> Methods {
    let method = |path: &str| {
        let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(Unserved);
        (path.to_owned(), handler)
    };
    PATHS.into_iter().map(method).collect()
}

struct Unserved;

impl MethodHandler for Unserved {
    fn handler(&self, context: TtrpcContext, request: Request) -> Result<()> {
        let text = format!("{} is not implemented", request.method);
        let mut answer = Response::new();
        answer.set_status(get_status(Code::UNIMPLEMENTED, text));
        context.respond(context.mh.stream_id, answer)
    }
}
