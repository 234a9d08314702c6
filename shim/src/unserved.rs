//! Calls of newer containerds that this server does not serve, by their names.
//!
//! Owns the response. ttrpc's own, for unknown names, is "invalid argument", which
//! containerd regards as a failure; where it can do without a call, it expects
//! "unimplemented".

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
        let mut response = Response::new();
        response.set_status(get_status(Code::UNIMPLEMENTED, text));
        context.respond(context.mh.stream_id, response)
    }
}
