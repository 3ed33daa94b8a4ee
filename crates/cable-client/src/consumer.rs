//! Consumers: followers with a name, whose acknowledged positions the node stores.

use crate::{Cable, Position, Result, v1};

impl Cable {
    /// Stores the position up to which a consumer has applied its feed, on the node. It is on disk when the call returns.
    /// A position before the stored one changes nothing. Returns the position of the consumer after the call.
    ///
    /// [`FeedBuilder::consumer`](crate::FeedBuilder::consumer) does this for a feed.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::FeedFilter;
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut feed = cable.feed(FeedFilter::default()).consumer("search-indexer").open();
    /// while feed.try_next().await?.is_some() {
    ///     // The index has accepted the delivery, and must not receive it again.
    ///     if let Some(position) = feed.position() {
    ///         cable.acknowledge("search-indexer", &position).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// FAILED_PRECONDITION with `LogChanged` and OUT_OF_RANGE with `RevisionCompacted`: no feed could resume after the
    /// position. RESOURCE_EXHAUSTED with `TooManyConsumers`: the consumer is a new one, and there is no room for it.
    pub async fn acknowledge(&self, consumer: impl Into<String>, position: &Position) -> Result<Position> {
        let request = v1::AcknowledgePositionRequest {
            consumer: consumer.into(),
            position: Some(position.clone()),
            ..Default::default()
        };
        Ok(self.call(request, None).await?.position.unwrap_or_default())
    }

    /// Returns the consumers of the caller, in the order of their names.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// for consumer in cable.consumers().await? {
    ///     println!("{} is {} revisions behind", consumer.consumer, consumer.lag_revisions);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No node could be reached, or none responded in time.
    pub async fn consumers(&self) -> Result<Vec<v1::Consumer>> {
        Ok(self.call(v1::ListConsumersRequest::default(), None).await?.consumers)
    }

    /// Returns the consumers of all callers, in the order of their owners and names. Requires the role admin.
    ///
    /// # Errors
    /// As [`Cable::consumers`]; PERMISSION_DENIED without the role.
    pub async fn all_consumers(&self) -> Result<Vec<v1::Consumer>> {
        Ok(self.call(v1::ListConsumersRequest { all_owners: true }, None).await?.consumers)
    }

    /// Deletes a consumer with its position: that of the caller or, with the role admin, of the given owner.
    ///
    /// # Errors
    /// NOT_FOUND: there is no such consumer. An earlier attempt of the same call may have deleted it.
    pub async fn delete_consumer(&self, consumer: impl Into<String>, owner: Option<&str>) -> Result<()> {
        let request =
            v1::DeleteConsumerRequest { consumer: consumer.into(), owner: owner.map(str::to_owned) };
        self.call(request, None).await.map(drop)
    }
}
