//! The traces of a node: its spans, and the exporter that sends them to a collector, if the node has one.

use super::Error;
use crate::{
    config,
    telemetry::{Metrics, Spans},
};

#[cfg(feature = "otlp")]
mod export;

/// The traces of a node.
pub(super) struct Traces {
    pub(super) spans: Spans,
    #[cfg(feature = "otlp")]
    exporter: Option<export::Exporter>,
}

impl Traces {
    /// Starts the exporter, if the settings name a collector. Nothing waits for the collector.
    ///
    /// # Errors
    /// The address of the collector cannot be used, or this program was built without the feature `otlp`.
    #[cfg(feature = "otlp")]
    pub(super) fn start(settings: &config::Telemetry, metrics: &Metrics) -> Result<Traces, Error> {
        let Some(endpoint) = &settings.otlp_endpoint else {
            return Ok(Traces { spans: Spans::off(), exporter: None });
        };
        let (spans, queue) = Spans::new(settings.otlp_ratio, metrics.spans_dropped.clone());
        let exporter = export::Exporter::start(endpoint, queue, metrics)
            .map_err(|source| Error::Traces { endpoint: endpoint.clone(), source })?;
        Ok(Traces { spans, exporter: Some(exporter) })
    }

    /// Sends the spans that wait. A collector that does not take them within some seconds loses them.
    #[cfg(feature = "otlp")]
    pub(super) async fn stop(self) {
        drop(self.spans);
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
    }

    /// Returns traces that are off.
    ///
    /// # Errors
    /// The settings name a collector.
    #[cfg(not(feature = "otlp"))]
    pub(super) fn start(settings: &config::Telemetry, metrics: &Metrics) -> Result<Traces, Error> {
        // They remain 0.
        let _ = (&metrics.spans_exported, &metrics.spans_dropped);
        match &settings.otlp_endpoint {
            None => Ok(Traces { spans: Spans::off() }),
            Some(endpoint) => {
                let source = "this program was built without the feature `otlp`".into();
                Err(Error::Traces { endpoint: endpoint.clone(), source })
            }
        }
    }

    /// Does nothing: no span waits.
    #[cfg(not(feature = "otlp"))]
    pub(super) async fn stop(self) {}
}
