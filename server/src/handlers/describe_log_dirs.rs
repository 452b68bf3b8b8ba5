//! DescribeLogDirs (key 35), versions 1 to 5. How much of the data directory each partition takes (KIP-113; KIP-827 for
//! the room that there is).
//!
//! - There is one directory. Partitions that are asked for and not there are left out.
//! - Owner core: any; the sizes come from the stores of all cores.

use std::collections::HashMap;
use std::future::ready;
use std::path::Path;

use engine::Slot;
use wire::Uuid;
use wire::error::ErrorCode;
use wire::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use crate::api::{Request, RequestError};
use crate::connection::responses::Reply;
use crate::image::{Image, Topic, UNPLACED};
use crate::machine;
use crate::services::Services;
use crate::shard::Shard;

/// The data directory.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    /// Its absolute path.
    pub path: &'a str,
    /// The size of its file system, in bytes; -1 is unknown.
    pub total_bytes: i64,
    /// What is free for this process, in bytes; -1 is unknown.
    pub usable_bytes: i64,
}

/// Bytes on disk by topic and partition.
pub type Sizes = HashMap<(Uuid, i32), u64>;

/// Answers a request.
pub async fn handle(shard: Shard, request: Request) -> Result<Reply, RequestError> {
    let asked: DescribeLogDirsRequest<'_> = request.decode()?;
    let image = shard.image().clone();
    let sizes = measure(&shard, &image).await;
    let services = Services::of(&shard);
    let path = services.options.data_dir.as_str();
    let (total_bytes, usable_bytes) = machine::disk_room(Path::new(path));
    request.reply(&answer(&asked, &image, &sizes, Directory { path, total_bytes, usable_bytes }))
}

/// A partition, and where its store has it.
type Measured = ((Uuid, i32), Slot);

/// The sizes of all partitions, from the stores of all cores.
async fn measure(shard: &Shard, image: &Image) -> Sizes {
    let mut places: Vec<Vec<Measured>> = (0..shard.cores()).map(|_| Vec::new()).collect();
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions).filter(|(_, partition)| partition.slot != UNPLACED) {
            places[partition.core].push(((topic.id, index), partition.slot));
        }
    }
    let ask = |(core, places): (usize, Vec<Measured>)| {
        let bytes_of = |shard: &Shard, slot| shard.store().info(slot).map(|info| info.bytes);
        shard.run_on(core, move |shard| {
            let known = places.into_iter().filter_map(|(key, slot)| Some((key, bytes_of(&shard, slot)?)));
            ready(known.collect::<Vec<_>>())
        })
    };
    let calls: Vec<_> = places.into_iter().enumerate().map(ask).collect();
    let mut sizes = Sizes::new();
    for call in calls {
        sizes.extend(call.await);
    }
    sizes
}

/// The answer.
#[must_use]
pub fn answer<'a>(
    request: &DescribeLogDirsRequest<'_>,
    image: &'a Image,
    sizes: &Sizes,
    directory: Directory<'a>,
) -> DescribeLogDirsResponse<'a> {
    let describe = |topic: &'a Topic, partitions: &mut dyn Iterator<Item = i32>| {
        let partition = |index: i32| {
            let bytes = sizes.get(&(topic.id, index))?;
            Some(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: i64::try_from(*bytes).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            })
        };
        let partitions: Vec<_> = partitions.filter_map(partition).collect();
        (!partitions.is_empty()).then_some(DescribeLogDirsTopic { name: &topic.name, partitions })
    };
    let topics = match &request.topics {
        None => {
            let sorted = image.sorted_topics().into_iter();
            sorted
                .filter_map(|topic| {
                    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    describe(topic, &mut (0..count))
                })
                .collect()
        }
        Some(asked) => asked
            .iter()
            .filter_map(|asked| describe(image.topic(asked.topic)?, &mut asked.partitions.iter().copied()))
            .collect(),
    };
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None as i16,
        log_dir: directory.path,
        topics,
        total_bytes: directory.total_bytes,
        usable_bytes: directory.usable_bytes,
        is_cordoned: false,
    };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

#[cfg(test)]
mod tests {
    use wire::Message;
    use wire::messages::describe_log_dirs_request::DescribableLogDirTopic;

    use super::super::test_image::{id, image};
    use super::*;

    #[test]
    fn sizes_of_what_is_there() {
        let image = image();
        let sizes = Sizes::from([((id(3), 0), 10), ((id(3), 2), 30), ((id(1), 0), 5)]);
        let directory = Directory { path: "/data", total_bytes: 100, usable_bytes: 40 };
        let brief = |topics: Option<Vec<(&'static str, Vec<i32>)>>| -> Vec<(String, i32, i64)> {
            let asked = |(topic, partitions)| DescribableLogDirTopic { topic, partitions };
            let request = DescribeLogDirsRequest { topics: topics.map(|it| it.into_iter().map(asked).collect()) };
            let answer = answer(&request, &image, &sizes, directory);
            for version in 1..=5 {
                answer.encode(&mut Vec::new(), version).unwrap();
            }
            let [result] = answer.results.as_slice() else { panic!("{answer:?}") };
            assert_eq!((result.log_dir, result.total_bytes, result.usable_bytes), ("/data", 100, 40));
            let partitions = result.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|it| (topic.name.to_owned(), it.partition_index, it.partition_size))
            });
            partitions.collect()
        };
        let text = str::to_owned;
        let all = [(text("configured"), 0, 5), (text("plain"), 0, 10), (text("plain"), 2, 30)];
        assert_eq!(brief(None), all);
        assert_eq!(brief(Some(vec![("nope", vec![0]), ("plain", vec![2, 7, -1])])), [(text("plain"), 2, 30)]);
        assert_eq!(brief(Some(Vec::new())), []);
    }
}
