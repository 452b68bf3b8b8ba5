//! UnregisterBroker (key 64), version 0: forgets a broker that is gone for good (KIP-500).
//!
//! - There is one broker, the one that answers. It is not gone, so it is refused; Kafka would forget it, and its
//!   partitions would have no leader until it is started again.
//! - Owner core: any.

use wire::error::ErrorCode;
use wire::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::admin::{Refusal, Texts};
use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::Image;
use crate::shard::Shard;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: UnregisterBrokerRequest = request.decode()?;
    let texts = Texts::new();
    let refusal = refuse(&asked, &shard.image());
    let (error_code, error_message) = refusal.parts(&texts);
    request.reply(&UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() })
}

/// Why the broker stays, or was never there.
fn refuse(request: &UnregisterBrokerRequest, image: &Image) -> Refusal {
    let id = request.broker_id;
    if image.brokers().contains_key(&id) {
        let sentence = format!("Broker {id} answers this request, so it cannot be forgotten.");
        return Refusal::new(ErrorCode::InvalidRequest, sentence);
    }
    Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
}

#[cfg(test)]
mod tests {
    use super::super::test_image::image;
    use super::*;

    #[test]
    fn nobody_is_forgotten() {
        for (id, code) in [(1, ErrorCode::InvalidRequest), (77, ErrorCode::BrokerIdNotRegistered)] {
            assert_eq!(refuse(&UnregisterBrokerRequest { broker_id: id }, &image()).code, code);
        }
    }
}
