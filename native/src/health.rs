//! `grpc.health.v1`: whether calls should be sent here.

use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::server::AUTHORIZATION;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    NotServing,
    Serving,
    /// Not serving, and never again: who watches need not wait.
    Closed,
}

/// Answers for the whole server (the empty name) and for the one service it has.
pub struct HealthService {
    pub state: watch::Receiver<State>,
}

#[async_trait]
impl Health for HealthService {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(*self.state.borrow(), &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            known => Ok(Response::new(response(known))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (tell, told) = mpsc::channel(1);
        let service = request.into_inner().service;
        tokio::spawn(tell_changes(self.state.clone(), service, tell));
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// Send the status at once and whenever it changes, until either side is gone.
async fn tell_changes(
    mut state: watch::Receiver<State>,
    service: String,
    tell: mpsc::Sender<Result<HealthCheckResponse, Status>>,
) {
    let mut last = None;
    loop {
        let now = *state.borrow_and_update();
        let status = status(now, &service);
        if last != Some(status) && tell.send(Ok(response(status))).await.is_err() {
            return;
        }
        last = Some(status);
        if now == State::Closed {
            return;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tell.closed() => return,
        }
    }
}

fn status(state: State, service: &str) -> ServingStatus {
    if !service.is_empty() && service != AUTHORIZATION {
        return ServingStatus::ServiceUnknown;
    }
    match state {
        State::Serving => ServingStatus::Serving,
        State::NotServing | State::Closed => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
