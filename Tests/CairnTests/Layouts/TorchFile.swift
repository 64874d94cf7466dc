import Foundation
import TensorFormats

/// Made-up files as `torch.save` writes them.
enum TorchFile {
    /// A tensor of 32-bit floats: that many from `first` on, one more each.
    struct Tensor {
        var shape: [UInt64]
        var first: Float = 0
    }

    /// - Parameter value: names the tensors by their places.
    static func of(_ value: TorchValue, _ tensors: [Tensor] = []) throws -> [UInt8] {
        let contents = tensors.map { tensor in
            (0..<tensor.shape.reduce(1, *)).flatMap { index in
                withUnsafeBytes(of: (tensor.first + Float(index)).bitPattern.littleEndian) { [UInt8]($0) }
            }
        }
        let plan = try TorchFileWriter.file(
            of: value,
            tensors: tensors.enumerated().map { .init(name: "", dtype: .f32, shape: $1.shape, content: $0) })
        return plan.parts.flatMap { part -> [UInt8] in
            switch part {
            case .literal(let bytes): bytes
            case .content(let content, _): contents[content]
            // Not computed.
            case .checksum: [0, 0, 0, 0]
            }
        }
    }
}

extension TorchValue {
    static func named(_ items: KeyValuePairs<String, TorchValue>) -> TorchValue {
        .dictionary(items.map { (.text($0.key), $0.value) })
    }

    static func sizes(_ lengths: Int64...) -> TorchValue { .tuple(lengths.map { .integer($0) }) }

    /// What a file may hold in the place of anything.
    static let hostile: [TorchValue] = [
        .none, .bool(true), .integer(-1), .integer(0), .integer(1), .integer(.max), .integer(.min),
        .integer(1 << 40), .float(.nan),
        .float(.infinity), .text("../../etc"), .text(""), .bytes([0xFF]), .list([]),
        .list([.list([.integer(.max)])]), .sizes(.max, .max, 2),
        .sizes(-1), .sizes(0), .tensor(0), .list([.tensor(0), .tensor(0)]),
        .dictionary([(.integer(.min), .none)]),
        .named(["": .sizes(.max)]), .list([.named(["a": .sizes(1 << 40), "b": .sizes(.max, .max)])]),
    ]
}
