//! Readings at the beginning and the end of the measurement: the broker's CPU time and the machine's.

use std::io;

use crate::cpu::{CpuSample, CpuSpent, MachineTicks, Meter};
use crate::error::RunError;

/// What the broker spent and over how many nanoseconds, or why it could not be read at the end.
pub type BrokerCpu = Result<(CpuSpent, u64), io::Error>;

/// Readings at the beginning and the end of the measurement.
pub struct Gauges<'a> {
    meter: Option<&'a Meter>,
    before: Option<(CpuSample, u64)>,
    ticks: Option<MachineTicks>,
    broker_cpu: Option<BrokerCpu>,
    steal_share: f64,
}

impl<'a> Gauges<'a> {
    /// Reads once, so that a wrong process id is noticed before the load and not after it.
    pub fn new(meter: Option<&'a Meter>) -> Result<Gauges<'a>, RunError> {
        let gauges = Gauges { meter, before: None, ticks: None, broker_cpu: None, steal_share: 0.0 };
        gauges.sample()?;
        Ok(gauges)
    }

    fn sample(&self) -> Result<Option<CpuSample>, RunError> {
        let Some(meter) = self.meter else { return Ok(None) };
        meter.read().map(Some).map_err(|source| RunError::Meter { meter: meter.clone(), source })
    }

    /// Whether the measurement's first reading was taken.
    pub fn has_begun(&self) -> bool {
        self.ticks.is_some()
    }

    /// Takes the first reading, once; `now` is the clock's time in nanoseconds.
    pub fn begin(&mut self, now: u64) -> Result<(), RunError> {
        if !self.has_begun() {
            self.before = self.sample()?.map(|sample| (sample, now));
            self.ticks = Some(MachineTicks::now());
        }
        Ok(())
    }

    /// Takes the last reading.
    pub fn end(&mut self, now: u64) {
        if let (Some(meter), Some((before, since))) = (self.meter, &self.before) {
            // A broker that died in the meantime must not cost the report.
            self.broker_cpu = Some(meter.read().map(|after| (CpuSpent::between(before, &after), now - since)));
        }
        if let Some(ticks) = self.ticks {
            self.steal_share = MachineTicks::now().steal_since(ticks);
        }
    }

    /// What the broker spent, and the share of all processor time that was stolen.
    pub fn finish(self) -> (Option<BrokerCpu>, f64) {
        (self.broker_cpu, self.steal_share)
    }
}
