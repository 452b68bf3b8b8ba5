//! Keys of Kafka's broker that are not settings of Weir: accepted without effect, or refused where to go without them
//! would mislead.
//!
//! With [`super::settings`] they are all public keys of Kafka 4.3.1, so that any `server.properties` can be judged line
//! by line. A key in neither is unknown.

/// What becomes of a key of Kafka's that Weir has no setting for.
#[derive(Debug, Clone, Copy)]
pub enum Treatment {
    /// It is accepted, and one log line says that it has no effect.
    NoEffect,
    /// It is accepted with a value that asks for nothing, and refused otherwise.
    Unless(&'static Refusal),
}

/// A key that asks for something which Weir does not do.
#[derive(Debug)]
pub struct Refusal {
    /// The key.
    pub key: &'static str,
    /// Which values ask for nothing.
    pub harmless: fn(&str) -> bool,
    /// Why other values are refused, and what to do.
    pub why: &'static str,
}

/// What becomes of `key`; `None` if Kafka 4.3.1 does not know it either or if it is a setting.
#[must_use]
pub fn treatment(key: &str) -> Option<Treatment> {
    if let Some(refusal) = REFUSED.iter().find(|refusal| refusal.key == key) {
        return Some(Treatment::Unless(refusal));
    }
    NO_EFFECT.binary_search(&key).ok().map(|_| Treatment::NoEffect)
}

/// Keys whose neglect would mislead.
pub static REFUSED: &[Refusal] = &[
    Refusal {
        key: "alter.config.policy.class.name",
        harmless: str::is_empty,
        why: "policies are Java classes, which Weir cannot run; remove the key",
    },
    Refusal {
        key: "authorizer.class.name",
        harmless: str::is_empty,
        why: "Weir does not authorise clients yet, so everything would be open; remove the key to agree to that",
    },
    Refusal {
        key: "client.quota.callback.class",
        harmless: str::is_empty,
        why: "quota callbacks are Java classes, which Weir cannot run; remove the key",
    },
    Refusal {
        key: "config.providers",
        harmless: str::is_empty,
        why: "config providers are Java classes, which Weir cannot run; write the values themselves",
    },
    Refusal {
        key: "controller.quorum.bootstrap.servers",
        harmless: is_at_most_one,
        why: "Weir runs alone and joins no quorum; remove the key",
    },
    Refusal {
        key: "controller.quorum.voters",
        harmless: is_at_most_one,
        why: "Weir runs alone and joins no quorum; remove the key",
    },
    Refusal {
        key: "cordoned.log.dirs",
        harmless: str::is_empty,
        why: "Weir has one data directory, which cannot be cordoned; remove the key",
    },
    Refusal {
        key: "create.topic.policy.class.name",
        harmless: str::is_empty,
        why: "policies are Java classes, which Weir cannot run; remove the key",
    },
    Refusal {
        key: "process.roles",
        harmless: has_the_role_of_broker,
        why: "Weir is a broker; set process.roles=broker or broker,controller, or remove the key",
    },
    Refusal {
        key: "remote.log.storage.system.enable",
        harmless: is_false,
        why: "Weir has no tiered storage; remove the key",
    },
];

fn is_at_most_one(value: &str) -> bool {
    !value.contains(',')
}

fn has_the_role_of_broker(value: &str) -> bool {
    let mut roles = value.split(',').map(str::trim);
    roles.clone().any(|role| role == "broker") && roles.all(|role| role == "broker" || role == "controller")
}

fn is_false(value: &str) -> bool {
    value.eq_ignore_ascii_case("false")
}

/// Keys that change nothing here, in alphabetical order.
#[rustfmt::skip]
pub static NO_EFFECT: &[&str] = &[
    "add.partitions.to.txn.retry.backoff.ms",
    "alter.log.dirs.replication.quota.window.num", "alter.log.dirs.replication.quota.window.size.seconds",
    "auto.leader.rebalance.enable", "background.threads", "broker.heartbeat.interval.ms", "broker.session.timeout.ms",
    "connection.failed.authentication.delay.ms", "connections.max.reauth.ms", "controlled.shutdown.enable",
    "controller.quorum.append.linger.ms", "controller.quorum.auto.join.enable",
    "controller.quorum.election.backoff.max.ms", "controller.quorum.election.timeout.ms",
    "controller.quorum.fetch.max.bytes", "controller.quorum.fetch.snapshot.max.bytes",
    "controller.quorum.fetch.timeout.ms", "controller.quorum.request.timeout.ms", "controller.quorum.retry.backoff.ms",
    "controller.quota.window.num", "controller.quota.window.size.seconds", "controller.socket.timeout.ms",
    "delegation.token.expiry.check.interval.ms", "delegation.token.expiry.time.ms", "delegation.token.max.lifetime.ms",
    "delegation.token.secret.key", "delete.records.purgatory.purge.interval.requests", "early.start.listeners",
    "fetch.purgatory.purge.interval.requests", "follower.fetch.last.tiered.offset.enable",
    "group.consumer.assignor.offload.enable", "group.coordinator.append.linger.ms",
    "group.coordinator.background.threads",
    "group.coordinator.cached.buffer.max.bytes", "group.coordinator.rebalance.protocols", "group.coordinator.threads",
    "group.share.assignment.interval.ms", "group.share.assignors", "group.share.delivery.count.limit",
    "group.share.heartbeat.interval.ms", "group.share.max.assignment.interval.ms",
    "group.share.max.delivery.count.limit", "group.share.max.heartbeat.interval.ms",
    "group.share.max.partition.max.record.locks", "group.share.max.record.lock.duration.ms",
    "group.share.max.session.timeout.ms", "group.share.max.share.sessions", "group.share.max.size",
    "group.share.min.assignment.interval.ms", "group.share.min.delivery.count.limit",
    "group.share.min.heartbeat.interval.ms", "group.share.min.partition.max.record.locks",
    "group.share.min.record.lock.duration.ms", "group.share.min.session.timeout.ms",
    "group.share.partition.max.record.locks", "group.share.record.lock.duration.ms", "group.share.session.timeout.ms",
    "group.streams.assignment.interval.ms", "group.streams.heartbeat.interval.ms",
    "group.streams.initial.rebalance.delay.ms", "group.streams.max.assignment.interval.ms",
    "group.streams.max.heartbeat.interval.ms", "group.streams.max.session.timeout.ms", "group.streams.max.size",
    "group.streams.max.standby.replicas", "group.streams.min.assignment.interval.ms",
    "group.streams.min.heartbeat.interval.ms", "group.streams.min.session.timeout.ms",
    "group.streams.num.standby.replicas", "group.streams.session.timeout.ms",
    "initial.broker.registration.timeout.ms", "inter.broker.listener.name", "kafka.metrics.polling.interval.secs",
    "kafka.metrics.reporters", "leader.imbalance.check.interval.seconds", "log.cleaner.threads",
    "log.dir.failure.timeout.ms", "log.flush.offset.checkpoint.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms", "metadata.log.dir",
    "metadata.log.max.record.bytes.between.snapshots", "metadata.log.max.snapshot.interval.ms",
    "metadata.log.segment.bytes", "metadata.log.segment.ms", "metadata.max.idle.interval.ms",
    "metadata.max.retention.bytes", "metadata.max.retention.ms", "metric.reporters", "metrics.num.samples",
    "metrics.recording.level", "metrics.sample.window.ms", "num.io.threads", "num.network.threads",
    "num.recovery.threads.per.data.dir", "num.replica.alter.log.dirs.threads", "num.replica.fetchers",
    "offsets.commit.timeout.ms", "offsets.load.buffer.size", "offsets.topic.compression.codec",
    "principal.builder.class", "producer.purgatory.purge.interval.requests", "queued.max.request.bytes",
    "queued.max.requests", "quota.window.num", "quota.window.size.seconds", "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms", "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size", "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.copy.quota.window.num", "remote.log.manager.copy.quota.window.size.seconds",
    "remote.log.manager.expiration.thread.pool.size", "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.manager.fetch.quota.window.num", "remote.log.manager.fetch.quota.window.size.seconds",
    "remote.log.manager.follower.thread.pool.size", "remote.log.manager.task.interval.ms",
    "remote.log.manager.thread.pool.size", "remote.log.metadata.custom.metadata.max.bytes",
    "remote.log.metadata.manager.class.name", "remote.log.metadata.manager.class.path",
    "remote.log.metadata.manager.impl.prefix", "remote.log.metadata.manager.listener.name",
    "remote.log.reader.max.pending.tasks", "remote.log.reader.threads", "remote.log.storage.manager.class.name",
    "remote.log.storage.manager.class.path", "remote.log.storage.manager.impl.prefix", "replica.fetch.backoff.ms",
    "replica.fetch.max.bytes", "replica.fetch.min.bytes", "replica.fetch.response.max.bytes",
    "replica.fetch.wait.max.ms", "replica.high.watermark.checkpoint.interval.ms", "replica.lag.time.max.ms",
    "replica.selector.class", "replica.socket.receive.buffer.bytes", "replica.socket.timeout.ms",
    "replication.quota.window.num", "replication.quota.window.size.seconds", "request.timeout.ms",
    "sasl.client.callback.handler.class", "sasl.enabled.mechanisms", "sasl.jaas.config", "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin", "sasl.kerberos.principal.to.local.rules", "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter", "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.callback.handler.class", "sasl.login.class", "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms", "sasl.login.refresh.buffer.seconds", "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor", "sasl.login.refresh.window.jitter", "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms", "sasl.mechanism.controller.protocol", "sasl.mechanism.inter.broker.protocol",
    "sasl.oauthbearer.assertion.algorithm", "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds", "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include", "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub", "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.template.file", "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.expected.audience", "sasl.oauthbearer.expected.issuer",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.jwt.retriever.class", "sasl.oauthbearer.jwt.validator.class", "sasl.oauthbearer.scope",
    "sasl.oauthbearer.scope.claim.name", "sasl.oauthbearer.sub.claim.name", "sasl.oauthbearer.token.endpoint.url",
    "sasl.server.callback.handler.class", "sasl.server.max.receive.size", "security.inter.broker.protocol",
    "security.providers", "share.coordinator.append.linger.ms", "share.coordinator.cached.buffer.max.bytes",
    "share.coordinator.load.buffer.size", "share.coordinator.snapshot.update.records.per.snapshot",
    "share.coordinator.state.topic.compression.codec", "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.num.partitions", "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.segment.bytes", "share.coordinator.threads", "share.coordinator.write.timeout.ms",
    "share.fetch.purgatory.purge.interval.requests", "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms", "socket.listen.backlog.size", "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes", "ssl.allow.dn.changes", "ssl.allow.san.changes", "ssl.cipher.suites", "ssl.client.auth",
    "ssl.enabled.protocols", "ssl.endpoint.identification.algorithm", "ssl.engine.factory.class", "ssl.key.password",
    "ssl.keymanager.algorithm", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.keystore.location",
    "ssl.keystore.password", "ssl.keystore.type", "ssl.principal.mapping.rules", "ssl.protocol", "ssl.provider",
    "ssl.secure.random.implementation", "ssl.trustmanager.algorithm", "ssl.truststore.certificates",
    "ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type", "telemetry.max.bytes",
    
    "transaction.state.log.load.buffer.size", "transaction.two.phase.commit.enable",
];

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::*;

    #[test]
    fn every_key_stands_in_one_table() {
        assert!(NO_EFFECT.is_sorted_by(|a, b| a < b));
        assert!(REFUSED.is_sorted_by(|a, b| a.key < b.key));
        for key in NO_EFFECT {
            assert!(settings::find(key).is_none(), "{key}");
            assert!(REFUSED.iter().all(|refusal| refusal.key != *key), "{key}");
        }
        for refusal in REFUSED {
            assert!(settings::find(refusal.key).is_none(), "{}", refusal.key);
        }
    }

    #[test]
    fn a_key_is_refused_only_for_what_it_asks() {
        let cases = [
            ("authorizer.class.name", "", true),
            ("authorizer.class.name", "org.example.Authorizer", false),
            ("process.roles", "broker, controller", true),
            ("process.roles", "controller", false),
            ("controller.quorum.voters", "1@localhost:9093", true),
            ("controller.quorum.voters", "1@a:9093,2@b:9093", false),
            ("remote.log.storage.system.enable", "False", true),
            ("remote.log.storage.system.enable", "true", false),
        ];
        for (key, value, accepted) in cases {
            let Some(Treatment::Unless(refusal)) = treatment(key) else { panic!("{key}") };
            assert_eq!((refusal.harmless)(value), accepted, "{key}={value}");
        }
        assert!(matches!(treatment("num.io.threads"), Some(Treatment::NoEffect)));
        assert!(treatment("zookeeper.connect").is_none());
        assert!(treatment("num.partitions").is_none());
    }
}
