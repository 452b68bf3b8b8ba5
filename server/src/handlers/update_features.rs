//! UpdateFeatures (key 57), versions 0 to 2: raises and lowers the levels of features (KIP-584).
//!
//! - One feature that is refused refuses all. Until version 1 a success names each feature, later it does not (KIP-1022).
//! - Levels that this broker supports are in [`features`]. An upgrade type other than upgrade allows to lower one.
//! - Owner core: 0.

use std::collections::BTreeMap;
use std::mem;

use wire::error::ErrorCode;
use wire::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use wire::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};

use super::admin::{Plan, Refusal, Texts};
use crate::api::{Request, RequestError};
use crate::catalog::Action;
use crate::connection::responses::Reply;
use crate::features;
use crate::image::Image;
use crate::services::Services;
use crate::shard::Shard;

/// Answers a request, after its plan has been carried out. On core 0.
pub async fn handle(core0: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: UpdateFeaturesRequest<'_> = request.decode()?;
    let (services, texts) = (Services::of(&core0), Texts::new());
    let turn = services.controller().turn().await;
    let image = turn.image();
    let mut plan = plan(&asked, request.version, &image, &texts);
    if let Err(error) = turn.carry_out(mem::take(&mut plan.actions)).await {
        plan.response = failure(Refusal::plain(error.code()), &texts);
    }
    request.reply(&plan.response)
}

/// What is to become of a level (`FeatureUpdate.UpgradeType` in Kafka).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    /// Down, if nothing is lost by it; or whatever is lost.
    Down,
}

/// Plans the changes of a request of this version.
pub fn plan<'a>(
    request: &UpdateFeaturesRequest<'a>,
    version: i16,
    image: &Image,
    texts: &'a Texts,
) -> Plan<UpdateFeaturesResponse<'a>> {
    // The last word about a feature counts.
    let updates: BTreeMap<&str, &FeatureUpdateKey<'_>> =
        request.feature_updates.iter().map(|update| (update.feature, update)).collect();
    let mut actions = Vec::new();
    for (name, update) in updates {
        match change(name, update, version, image) {
            Ok(action) => actions.extend(action),
            Err(sentence) => {
                let sentence = format!(
                    "The update failed for all features since the following feature had an error: Invalid update \
                     version {} for feature {name}. {sentence}",
                    update.max_version_level
                );
                let refusal = Refusal::new(ErrorCode::InvalidUpdateVersion, sentence);
                return Plan { response: failure(refusal, texts), actions: Vec::new() };
            }
        }
    }
    let named = request.feature_updates.iter().filter(|_| version < 2);
    let results = named.map(|update| UpdatableFeatureResult {
        feature: update.feature,
        error_code: ErrorCode::None as i16,
        // Kafka has the word for success here, and nothing for the whole.
        error_message: Some(ErrorCode::None.name()),
    });
    let response =
        UpdateFeaturesResponse { error_message: None, results: results.collect(), ..UpdateFeaturesResponse::default() };
    Plan { response, actions: if request.validate_only { Vec::new() } else { actions } }
}

fn failure(refusal: Refusal, texts: &Texts) -> UpdateFeaturesResponse<'_> {
    let (error_code, error_message) = refusal.parts(texts);
    UpdateFeaturesResponse { error_code, error_message, ..UpdateFeaturesResponse::default() }
}

/// The change of one feature; none if it has that level. An error says what is wrong with it.
fn change(name: &str, update: &FeatureUpdateKey<'_>, version: i16, image: &Image) -> Result<Option<Action>, String> {
    let direction = match (version, update.upgrade_type) {
        (0, _) if update.allow_downgrade => Direction::Down,
        (0, _) | (_, 1) => Direction::Up,
        (_, 2 | 3) => Direction::Down,
        _ => return Err("The controller does not support the given upgrade type.".to_owned()),
    };
    let wanted = update.max_version_level;
    if wanted < 0 {
        return Err("A feature version cannot be less than 0.".to_owned());
    }
    let what = format!("Local controller {}", image.node_id());
    let Some(feature) = features::SUPPORTED.iter().find(|feature| feature.name == name) else {
        return Err(format!("{what} does not support this feature."));
    };
    if wanted < feature.min || wanted > feature.max {
        return Err(format!("{what} only supports versions {}-{}", feature.min, feature.max));
    }
    let current = image.features().get(name).copied().unwrap_or(0);
    if wanted < current && direction == Direction::Up {
        let sentence = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                        unsafe downgrade.";
        return Err(sentence.to_owned());
    }
    if wanted > current && direction == Direction::Down {
        return Err("Can't downgrade to a newer version.".to_owned());
    }
    Ok((wanted != current).then(|| Action::SetFeature { name: name.to_owned(), level: wanted }))
}

#[cfg(test)]
mod tests {
    use wire::Message;

    use super::super::test_image::image;
    use super::*;
    use crate::features::METADATA_VERSION;

    fn update(feature: &str, level: i16, upgrade_type: i8) -> FeatureUpdateKey<'_> {
        FeatureUpdateKey { feature, max_version_level: level, upgrade_type, ..FeatureUpdateKey::default() }
    }

    fn outcome(updates: Vec<FeatureUpdateKey<'_>>, version: i16) -> (i16, String, usize, Vec<Action>) {
        let (image, texts) = (image(), Texts::new());
        let request = UpdateFeaturesRequest { timeout_ms: 1000, feature_updates: updates, validate_only: false };
        let plan = plan(&request, version, &image, &texts);
        plan.response.encode(&mut Vec::new(), version).unwrap();
        let message = plan.response.error_message.unwrap_or_default().to_owned();
        (plan.response.error_code, message, plan.response.results.len(), plan.actions)
    }

    #[test]
    fn levels_that_are_supported_are_taken() {
        let level = features::SUPPORTED.iter().find(|feature| feature.name == METADATA_VERSION).unwrap().max;
        let set = Action::SetFeature { name: METADATA_VERSION.to_owned(), level };
        for version in 0..=2 {
            let (code, _, results, actions) = outcome(vec![update(METADATA_VERSION, level, 1)], version);
            assert_eq!((code, results), (0, usize::from(version < 2)));
            assert_eq!(actions, std::slice::from_ref(&set), "the image of the tests has no level yet");
        }
        let twice = vec![update(METADATA_VERSION, 99, 1), update(METADATA_VERSION, level, 1)];
        assert_eq!(outcome(twice, 1).3, [set], "the last word counts");
        assert_eq!(outcome(vec![], 2), (0, String::new(), 0, vec![]));
    }

    #[test]
    fn one_refusal_refuses_all() {
        let good = || update(METADATA_VERSION, 30, 1);
        let cases = [
            (update("bogus", 1, 1), "Local controller 1 does not support this feature."),
            (update(METADATA_VERSION, 31, 1), "Local controller 1 only supports versions 30-30"),
            (update(METADATA_VERSION, -3, 1), "A feature version cannot be less than 0."),
            (update(METADATA_VERSION, 30, 9), "The controller does not support the given upgrade type."),
            (update(METADATA_VERSION, 30, 2), "Can't downgrade to a newer version."),
        ];
        for (bad, sentence) in cases {
            let (code, message, results, actions) = outcome(vec![good(), bad.clone()], 1);
            assert_eq!((code, results, actions), (95, 0, vec![]), "{bad:?}");
            assert!(message.ends_with(sentence), "{message}");
        }
    }
}
