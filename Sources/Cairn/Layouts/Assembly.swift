/// A model's tensors as they are without parallelism, and what each is put together from.
struct Assembly: Sendable {
    /// Elements of a stored tensor, and where they are in the one that is put together.
    struct Piece: Sendable, Hashable {
        enum Place: Sendable, Hashable {
            /// All of the stored tensor, which has this shape, from this element on along each axis.
            case box(offset: [UInt64], shape: [UInt64])
            /// `count` elements, from `from` of the stored tensor's on, are those from `start` on: both seen as one row of elements.
            case run(start: UInt64, count: UInt64, from: UInt64)
            /// The same where several tensors have a share each, one behind the other: of `count` elements the first `share` are this
            /// one's, the next those of the next of `ranks`, all from `from` on. One piece for as many ranks as there are.
            case shares(ranks: Ranks, start: UInt64, count: UInt64, share: UInt64, from: UInt64)
        }

        /// Tensors in files of ranks, the first of which is a piece's own. Made once for all pieces that lie in them.
        final class Ranks: Sendable, Hashable {
            let tensors: [(file: String, tensor: String)]

            init(_ tensors: [(file: String, tensor: String)]) { self.tensors = tensors }

            static func == (a: Ranks, b: Ranks) -> Bool { a === b }

            func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
        }

        /// The file that holds the stored tensor, below the checkpoint's folder.
        var file: String
        /// What it is called there, as in the file's `TensorMap`.
        var tensor: String
        var place: Place
    }

    struct Tensor: Sendable, Hashable {
        var name: String
        /// As `DType` spells it.
        var dtype: String
        var shape: [UInt64]
        /// They tile the tensor; where several hold the same elements, these have the same bytes.
        var pieces: [Piece]
        /// In the place of pieces: what ranks have of it, each of which has to be put together first.
        var parts: [Part] = []
        /// The shape in which these lie, where that is another one of as many elements.
        var partShape: [UInt64]?
        /// Why it can't be put together though it is there, as a sentence's middle; nil where it can.
        var problem: String?
    }

    /// What a rank has of a tensor, and where that lies in it.
    struct Part: Sendable, Hashable {
        /// A box of the part.
        struct Box: Sendable, Hashable {
            /// Along each axis of the part.
            var region: [Range<UInt64>]
            /// Where its first element is in the tensor, along each axis.
            var offset: [UInt64]
        }

        var tensor: Tensor
        var boxes: [Box]
    }

    /// The model's, in the order in which the layout names them.
    var tensors: [Tensor] = []
    /// The optimizer's state, where it is kept by the names of the parameters: `exp_avg.model.embed.weight`.
    var optimizer: [Tensor] = []
    /// What the file with the model's tensors is called, before its extension.
    var fileName = "model"
    /// Files that go with the model as they are, and what they are called beside it: configuration, tokenizer.
    var files: [(path: String, name: String)] = []
}

extension Assembly.Tensor {
    /// The files that it is put together from, each once.
    var files: Set<String> {
        parts.reduce(into: Set(pieces.map(\.file))) { $0.formUnion($1.tensor.files) }
    }

    /// A tensor that one file holds whole.
    init(whole name: String, dtype: String, shape: [UInt64], file: String, tensor: String? = nil) {
        self.init(
            name: name, dtype: dtype, shape: shape,
            pieces: [
                .init(
                    file: file, tensor: tensor ?? name,
                    place: .box(offset: [UInt64](repeating: 0, count: shape.count), shape: shape))
            ])
    }
}

extension Assembly {
    /// The same of a folder that lies in a larger checkpoint.
    func below(_ folder: String) -> Assembly {
        let prefix = folder + "/"
        var ranks: [Piece.Ranks: Piece.Ranks] = [:]
        func moved(_ piece: Piece) -> Piece {
            var copy = piece
            copy.file = prefix + piece.file
            if case .shares(let old, let start, let count, let share, let from) = piece.place {
                let new = ranks[old] ?? Piece.Ranks(old.tensors.map { (prefix + $0.file, $0.tensor) })
                ranks[old] = new
                copy.place = .shares(ranks: new, start: start, count: count, share: share, from: from)
            }
            return copy
        }
        func moved(_ tensors: [Tensor]) -> [Tensor] {
            tensors.map { tensor in
                var copy = tensor
                copy.pieces = tensor.pieces.map { moved($0) }
                for index in copy.parts.indices {
                    copy.parts[index].tensor = moved([copy.parts[index].tensor])[0]
                }
                return copy
            }
        }
        return Assembly(
            tensors: moved(tensors), optimizer: moved(optimizer), fileName: fileName,
            files: files.map { (prefix + $0.path, $0.name) })
    }
}
