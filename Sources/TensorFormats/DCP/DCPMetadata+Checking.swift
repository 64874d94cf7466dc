extension DCPMetadata {
    /// Why a checkpoint is not whole.
    public struct Problem: Sendable, Hashable {
        public enum Kind: Sendable, Hashable {
            /// A file with items is not there.
            case missingFile
            /// A file ends before the last item in it.
            case shortFile
            /// The metadata does not say where a chunk or an object is.
            case missingItem
            /// A chunk reaches beyond its tensor.
            case outside
            /// No chunk has some element of a tensor.
            case hole
            /// Two chunks have the same element.
            case overlap
            /// A tensor is cut into too many pieces along too many axes for this check.
            case tooComplex
        }

        public let kind: Kind
        /// Of the file, else of the tensor or object.
        public let name: String
        /// One sentence for people.
        public let message: String
    }

    /// Why the checkpoint is not whole, as far as that is seen without reading the files: every item must lie in its
    /// file, every chunk must have an item, and the chunks of each tensor must tile it.
    ///
    /// Takes time and memory in proportion to the chunks.
    ///
    /// - Parameters:
    ///   - maximumCount: how many problems to look for: each file and each tensor adds one at most.
    ///   - fileLength: bytes of one of `files`; nil where it is not there.
    /// - Returns: none where the checkpoint is whole.
    public func problems(maximumCount: Int = 100, fileLength: (String) -> UInt64?) -> [Problem] {
        var problems: [Problem] = []
        for (file, need) in needs().enumerated() where problems.count < maximumCount {
            if let problem = problem(of: files[file], need, length: fileLength(files[file])) {
                problems.append(problem)
            }
        }
        for object in objects where object.place == nil && problems.count < maximumCount {
            problems.append(
                Problem(
                    kind: .missingItem, name: object.name,
                    message: "The metadata does not say where \(object.name.quoted) is."))
        }
        for tensor in tensors where problems.count < maximumCount {
            if let problem = Self.missingItem(of: tensor) ?? ChunkTiling(tensor).problem {
                problems.append(problem)
            }
        }
        return problems
    }

    /// The items of a file.
    private struct Need {
        var count = 0
        /// Where the last one ends, and what it is called.
        var (end, name): (UInt64, String) = (0, "")
    }

    private func needs() -> [Need] {
        var needs = [Need](repeating: Need(), count: files.count)
        let note = { (place: Place?, name: String, needs: inout [Need]) in
            guard let place else { return }
            let (end, overflow) = place.offset.addingReportingOverflow(place.length)
            needs[place.file].count += 1
            guard overflow || end >= needs[place.file].end else { return }
            (needs[place.file].end, needs[place.file].name) = (overflow ? .max : end, name)
        }
        for object in objects { note(object.place, object.name, &needs) }
        for tensor in tensors {
            for chunk in tensor.chunks { note(chunk.place, tensor.name, &needs) }
        }
        return needs
    }

    private func problem(of file: String, _ need: Need, length: UInt64?) -> Problem? {
        guard need.count > 0 else { return nil }
        guard let length else {
            return Problem(
                kind: .missingFile, name: file,
                message: "The file \(file.quoted) is missing, which has \(need.count) items, "
                    + "\(need.name.quoted) among them.")
        }
        guard length < need.end else { return nil }
        return Problem(
            kind: .shortFile, name: file,
            message: "The file \(file.quoted) has \(length) bytes, but \(need.name.quoted) in it "
                + "ends at byte \(need.end).")
    }

    private static func missingItem(of tensor: Tensor) -> Problem? {
        guard let chunk = tensor.chunks.first(where: { $0.place == nil }) else { return nil }
        return Problem(
            kind: .missingItem, name: tensor.name,
            message:
                "The metadata does not say where the chunk at \(chunk.offsets) of \(tensor.name.quoted) is."
        )
    }
}
