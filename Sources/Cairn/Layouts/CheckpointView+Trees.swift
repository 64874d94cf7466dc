internal import Platform
internal import TensorFormats

extension CheckpointView {
    /// What a file of PyTorch holds, as far as it is no tensor's bytes; nil where there is none of that name, or where it is not whole, which
    /// `fault(inTensors:)` tells.
    func tree(in path: String) throws -> TorchTree? {
        guard let file = self[path] else { return nil }
        do {
            return try tree(of: file)
        } catch is TensorFileError {
            return nil
        }
    }

    /// The same for a file without which tensors can't be put together.
    /// - Throws: `.inconsistent` where it is missing, or not whole.
    func wantedTree(in path: String) throws -> TorchTree {
        guard let file = self[path] else { throw Assembly.refused("\(path) is missing", path) }
        do {
            return try tree(of: file)
        } catch let error as TensorFileError {
            throw Assembly.refused("\(path) can't be read: \(error.message)", path)
        }
    }
}

extension Assembly {
    /// Why a model can't be put together.
    /// - Parameter sentence: its end, without the full stop.
    static func refused(_ sentence: String, _ path: String? = nil) -> CairnError {
        let end = sentence.hasSuffix(".") ? String(sentence.dropLast()) : sentence
        return CairnError(.inconsistent, "the model can't be put together: \(end)", path: path)
    }
}

extension Assembly.Tensor {
    /// A tensor that a file of PyTorch holds whole: element by element, or in another order, as one that was transposed.
    init(whole name: String, _ tensor: TorchTree.Tensor, file: String) {
        if let stored = tensor.name, let dtype = tensor.dtype {
            self.init(whole: name, dtype: dtype, shape: tensor.shape, file: file, tensor: stored)
        } else if let storage = tensor.viewedStorage, let dtype = tensor.dtype, DType(rawValue: dtype) != nil
        {
            let place = Assembly.Piece.Place.view(
                storage: storage, start: tensor.storageOffset, stride: tensor.stride)
            self.init(
                name: name, dtype: dtype, shape: tensor.shape,
                pieces: [.init(file: file, tensor: name, place: place)])
        } else {
            self.init(
                name: name, dtype: tensor.dtype ?? "unknown", shape: tensor.shape, pieces: [],
                problem: .init(why: tensor.why, file: file))
        }
    }
}

extension TorchTree.Tensor {
    /// What the file's `TensorMap` calls it, and its dtype.
    /// - Throws: `.inconsistent` where the map does not have it.
    func stored(in file: String) throws -> (name: String, dtype: String) {
        guard let name, let dtype else {
            throw Assembly.refused("in \(file), of a tensor \(why)", file)
        }
        return (name, dtype)
    }

    /// Why the map does not have it, as the end of a sentence.
    fileprivate var why: String { CheckpointView.inner(problem ?? "It is not known how it is stored.") }

    /// Elements.
    var count: UInt64 { shape.product ?? .max }
}

extension [UInt64] {
    /// nil where it is beyond 64 bits.
    var product: UInt64? {
        if contains(0) { return 0 }
        return reduce(1 as UInt64?) { product, factor in
            guard let (result, overflow) = product?.multipliedReportingOverflow(by: factor), !overflow else {
                return nil
            }
            return result
        }
    }
}
