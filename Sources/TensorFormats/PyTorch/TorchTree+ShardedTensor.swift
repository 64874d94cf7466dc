extension TorchTree {
    /// The parts of a tensor that one process held, as the sharded state of the first FSDP has them (ShardedTensor).
    public struct ShardedTensor: Sendable, Equatable {
        /// A part of the whole, from `offsets` on.
        public struct Shard: Sendable, Equatable {
            public let offsets: [UInt64]
            public let shape: [UInt64]
            /// The process that held it; nil where the file does not tell.
            public let rank: Int?
            public let tensor: Tensor
        }

        /// By the name that `TensorMap` has for it; nil where it is not known.
        public let dtype: String?
        /// Of the whole tensor.
        public let shape: [UInt64]
        /// Those in this file; as a rule one, or none.
        public let local: [Shard]
    }
}

extension TorchTree.Value {
    /// The sharded tensor that the value is; nil for anything else.
    /// - Throws: `TensorFileError` with `notUnderstood` for one in an unknown form.
    public func shardedTensor() throws(TensorFileError) -> TorchTree.ShardedTensor? {
        let name = "torch.distributed._shard.sharded_tensor.api.ShardedTensor"
        guard let wrapper = try WrapperSubclass(self, oneOf: [name]) else { return nil }
        // Local shards, metadata, process group, sharding specification, whether there are remote references.
        guard let state = wrapper.state?.elements(atMost: 5), state.count == 5,
            let local = state[0].elements(),
            let shape = wrapper.shape, state[1].field("size")?.dimensions == shape
        else { throw .unsupported("a sharded tensor without its metadata") }
        return TorchTree.ShardedTensor(
            dtype: wrapper.dtype, shape: shape,
            local: try local.map { value throws(TensorFileError) in
                try TorchTree.ShardedTensor.Shard(value, of: shape)
            })
    }
}

extension TorchTree.ShardedTensor.Shard {
    fileprivate init(_ shard: TorchTree.Value, of whole: [UInt64]) throws(TensorFileError) {
        guard let tensor = shard.field("tensor")?.tensor, let metadata = shard.field("metadata") else {
            throw .unsupported("a shard without its tensor")
        }
        guard let offsets = metadata.field("shard_offsets")?.dimensions,
            let shape = metadata.field("shard_sizes")?.dimensions, shape == tensor.shape,
            offsets.count == whole.count, shape.count == whole.count,
            zip(zip(offsets, shape), whole).allSatisfy({ $0.1 <= $1 && $0.0 <= $1 - $0.1 })
        else { throw .unsupported("a shard that does not lie in its tensor") }
        self.tensor = tensor
        self.offsets = offsets
        self.shape = shape
        rank = metadata.field("placement")?.field("_rank")?.int
    }
}
