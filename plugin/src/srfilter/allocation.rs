//! Allocation queries: buffer pools in GPU memory, and pinned host memory.

use super::cuda::CudaContext;
use super::settings::Settings;
use gst::prelude::*;
use srfilter::engine::DeviceChoice;
use std::sync::Arc;

/// The CUDA context shared with the pipeline.
#[derive(Default)]
pub(super) enum SharedContext {
    /// Not known before READY.
    #[default]
    Unknown,
    /// The CPU computes, or GStreamer has no CUDA.
    Unavailable,
    Open(Arc<CudaContext>),
}

impl SharedContext {
    /// Opens the context of the device in the settings.
    pub(super) fn open(settings: &Settings) -> Self {
        // `start` reports errors of the device.
        let device = settings.device.parse().and_then(DeviceChoice::resolve);
        let context = device.ok().and_then(|device| CudaContext::open(&device));
        context.map_or(Self::Unavailable, |context| Self::Open(Arc::new(context)))
    }

    pub(super) fn get(&self) -> Option<Arc<CudaContext>> {
        match self {
            Self::Open(context) => Some(Arc::clone(context)),
            Self::Unknown | Self::Unavailable => None,
        }
    }
}

/// Adds an allocator of pinned memory to the query, unless it has one.
pub(super) fn offer_allocator(query: &mut gst::query::Allocation, allocator: &gst::Allocator) {
    match query.allocation_params().next() {
        None => query.add_allocation_param(Some(allocator), gst::AllocationParams::default()),
        Some((None, params)) => query.set_nth_allocation_param(0, Some(allocator), params),
        Some((Some(_), _)) => {}
    }
}

/// Whether all pools are plain video pools: others have their own allocators.
pub(super) fn pools_are_plain(query: &gst::query::Allocation) -> bool {
    let plain = gst_video::VideoBufferPool::static_type();
    let mut pools = query.allocation_pools().filter_map(|(pool, ..)| pool);
    pools.all(|pool| pool.type_() == plain)
}

/// Adds `count` buffers to the minimum of the first pool.
pub(super) fn require_more_buffers(query: &mut gst::query::Allocation, count: u32) {
    let offered = query.allocation_pools().next();
    if let Some((pool, size, min, max)) = offered {
        let min = min + count;
        query.set_nth_allocation_pool(0, pool.as_ref(), size, min, max);
    }
}

/// Replaces the first pool by one of the base class if it cannot have as many buffers as
/// it must: waiting for one would never end.
pub(super) fn avoid_small_pool(query: &mut gst::query::Allocation) {
    let offered = query.allocation_pools().next();
    if let Some((_, size, min, max)) = offered
        && max > 0
        && max < min
    {
        query.set_nth_allocation_pool(0, None::<&gst::BufferPool>, size, min, 0);
    }
}

/// Proposes a pool of GPU memory to upstream.
pub(super) fn propose_cuda_pool(
    query: &mut gst::query::Allocation,
    caps: &gst::Caps,
    context: &CudaContext,
) -> Result<(), gst::LoggableError> {
    let (pool, size) = context.pool(caps, (0, 0))?;
    query.add_allocation_pool(Some(&pool), size, 0, 0);
    query.add_allocation_meta::<gst_video::VideoMeta>(None);
    Ok(())
}

/// Decides for a pool of this context, regardless of downstream's proposals.
pub(super) fn decide_cuda_pool(
    query: &mut gst::query::Allocation,
    caps: &gst::Caps,
    context: &CudaContext,
) -> Result<(), gst::LoggableError> {
    let offered = query.allocation_pools().next();
    let (min, max) = offered.as_ref().map_or((0, 0), |offer| (offer.2, offer.3));
    let (pool, size) = context.pool(caps, (min, max))?;
    match offered {
        None => query.add_allocation_pool(Some(&pool), size, min, max),
        Some(_) => query.set_nth_allocation_pool(0, Some(&pool), size, min, max),
    }
    Ok(())
}
