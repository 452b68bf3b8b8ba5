//! What a coordinator knows of topics: names, ids, partitions. A view of the metadata at one point.

use wire::Uuid;

use crate::image::{Image, Topic};

/// The topics of an image.
#[derive(Debug, Clone, Copy)]
pub struct Topics<'a>(&'a Image);

impl<'a> Topics<'a> {
    /// The view of an image.
    #[must_use]
    pub fn new(image: &'a Image) -> Topics<'a> {
        Topics(image)
    }

    /// Tells images apart: a later one has a larger number.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.applied()
    }

    /// The id of the topic of a name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<Uuid> {
        self.0.topic(name).map(|topic| topic.id)
    }

    /// The name of the topic of an id.
    #[must_use]
    pub fn name(&self, id: &Uuid) -> Option<&'a str> {
        self.0.topic_by_id(id).map(|topic| &*topic.name)
    }

    /// How many partitions the topic of an id has.
    #[must_use]
    pub fn partition_count(&self, id: &Uuid) -> Option<i32> {
        self.0.topic_by_id(id).map(|topic| topic.partitions.len() as i32)
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.topics().map(|topic| &*topic.name)
    }

    /// A hash of everything about a topic that an assignment may depend on: id, name, partitions and their racks. It
    /// is Kafka's, since it is stored in the group's records.
    #[must_use]
    pub fn hash(&self, name: &str) -> Option<i64> {
        self.0.topic(name).map(|topic| self.topic_hash(topic))
    }

    fn topic_hash(&self, topic: &Topic) -> i64 {
        let mut bytes = vec![HASH_FORM];
        // Kafka hashes the halves of an id as numbers, lower byte first.
        bytes.extend(topic.id.0[..8].iter().rev());
        bytes.extend(topic.id.0[8..].iter().rev());
        put_text(&mut bytes, &topic.name);
        bytes.extend((topic.partitions.len() as i32).to_le_bytes());
        for (number, partition) in topic.partitions.iter().enumerate() {
            bytes.extend((number as i32).to_le_bytes());
            let brokers = self.0.brokers();
            let mut racks: Vec<&str> =
                partition.replicas.iter().filter_map(|id| brokers.get(id)?.rack.as_deref()).collect();
            racks.sort_unstable();
            for rack in racks {
                bytes.extend((rack.encode_utf16().count() as i32).to_le_bytes());
                put_text(&mut bytes, rack);
            }
        }
        twox_hash::XxHash3_64::oneshot(&bytes) as i64
    }
}

/// The first byte of what is hashed: the form of the rest.
const HASH_FORM: u8 = 0;

/// A text as Kafka's hash takes it in: its UTF-16 units and then how many they are.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut units = 0_i32;
    for unit in text.encode_utf16() {
        bytes.extend(unit.to_le_bytes());
        units += 1;
    }
    bytes.extend(units.to_le_bytes());
}

/// The hash of several topics' hashes, which come in the order of their names. Of no topic it is 0.
#[must_use]
pub fn combine_hashes(hashes: impl IntoIterator<Item = i64>) -> i64 {
    let bytes: Vec<u8> = hashes.into_iter().flat_map(i64::to_le_bytes).collect();
    if bytes.is_empty() { 0 } else { twox_hash::XxHash3_64::oneshot(&bytes) as i64 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::Action;
    use crate::config::topic::Configs;

    fn image(id: u128, name: &str, partitions: i32, rack: Option<&str>) -> Image {
        let mut draft = Image::new("cluster-id", 1, 1, Arc::new(Configs::new())).draft();
        let actions = [
            Action::RegisterBroker { endpoints: Vec::new(), rack: rack.map(str::to_owned), incarnation: Uuid([9; 16]) },
            Action::CreateTopic {
                name: name.to_owned(),
                id: Uuid(id.to_be_bytes()),
                partitions,
                configs: Configs::new(),
            },
        ];
        for action in &actions {
            let mut records = Vec::new();
            action.records(1, Uuid([8; 16]), &mut records);
            for record in &records {
                draft.apply(record).unwrap();
            }
        }
        draft.finish()
    }

    /// The expected numbers come from Kafka's own hash over the same topics.
    #[test]
    fn hashes_are_kafkas() {
        let foo = image(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, "foo", 3, None);
        let foo = Topics::new(&foo).hash("foo").unwrap();
        assert_eq!(foo, -6_208_928_541_441_449_389);
        let umlaut = image(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20, "bär", 100, None);
        let umlaut = Topics::new(&umlaut).hash("bär").unwrap();
        assert_eq!(umlaut, -1_342_109_984_215_411_169, "more bytes than the hash takes at a time");
        let in_rack = image(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20, "bar", 2, Some("rack-a"));
        assert_eq!(Topics::new(&in_rack).hash("bar"), Some(3_415_022_046_985_695_189));
        assert_eq!(combine_hashes([umlaut, foo]), 5_502_014_539_992_497_460);
        assert_eq!(combine_hashes([]), 0);
    }
}
