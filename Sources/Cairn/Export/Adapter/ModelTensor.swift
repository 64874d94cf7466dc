internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A tensor whose bytes are in the store, in a file on disk, or made while they are written.
struct ModelTensor: Sendable {
    var name: String
    /// As `DType` spells it.
    var dtype: String
    var shape: [UInt64]
    var content: OutputFile.Part

    var length: UInt64 { content.length }
    var elementCount: UInt64 { shape.contains(0) ? 0 : shape.reduce(1, *) }

    init(name: String, dtype: String, shape: [UInt64], content: OutputFile.Part) {
        (self.name, self.dtype, self.shape, self.content) = (name, dtype, shape, content)
    }

    init(_ tensor: GatheredTensor, _ sources: [Gather.Source]) {
        self.init(
            name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
            content: .gather(tensor.gather(sources)))
    }

    /// The bytes of a range.
    /// - Throws: `.damage`, naming the tensor.
    func read(_ range: Range<UInt64>, _ chunks: ChunkStore) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(range.upperBound - range.lowerBound))
        do {
            switch content {
            case .literal(let all): bytes += all[Int(range.lowerBound)..<Int(range.upperBound)]
            case .blob(let blob):
                if !range.isEmpty { bytes += try chunks.bytes(of: blob, range) }
            case .gather(let gather):
                try gather.forEachRun(in: range) { source, offset, count in
                    bytes += try chunks.bytes(of: gather.sources[source].blob, offset..<offset + count)
                }
            case .computed(let computed):
                bytes = [UInt8](repeating: 0, count: Int(range.upperBound - range.lowerBound))
                try bytes.withUnsafeMutableBytes { try computed.fill($0, from: range.lowerBound) }
            case .checksum: preconditionFailure("a tensor is no checksum")
            }
        } catch let error as CairnError where error.code == .damage {
            throw CairnError(.damage, "the tensor \(name) can't be read: \(error.message)", path: error.path)
        }
        return bytes
    }
}
