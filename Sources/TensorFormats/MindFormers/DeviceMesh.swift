/// Devices arranged along named axes, such as `dp=2,tp=4`: 8 of them, the last axis running fastest.
public struct DeviceMesh: Sendable, Equatable {
    public struct Axis: Sendable, Equatable {
        public var name: String
        public var size: Int

        public init(name: String, size: Int) {
            self.name = name
            self.size = size
        }
    }

    /// At least one; their names differ.
    public let axes: [Axis]

    /// The devices together.
    public var rankCount: Int { axes.reduce(1) { $0 * $1.size } }

    /// - Throws: `TensorFileError` for names that are none or come twice, and sizes that no cluster has.
    public init(_ axes: [Axis]) throws(TensorFileError) {
        guard (1...MindFormersLayout.maximumAxisCount).contains(axes.count) else {
            throw TensorFileError(.invalidLayout, "A mesh has axes, such as dp=2,tp=4.")
        }
        var (names, count): (Set<ExactText>, Int) = ([], 1)
        for axis in axes {
            guard Self.isName(axis.name), names.insert(ExactText(axis.name)).inserted else {
                throw TensorFileError(
                    .invalidLayout,
                    "A mesh has names of letters, digits and underscores for its axes, each once, but not \(axis.name.quoted)."
                )
            }
            guard axis.size > 0, axis.size <= MindFormersLayout.maximumRankCount / count else {
                throw TensorFileError(
                    .invalidLayout,
                    "The axis \(axis.name.quoted) of the mesh has \(axis.size) devices; at least 1 is needed, and at most "
                        + "\(MindFormersLayout.maximumRankCount) together.")
            }
            count *= axis.size
        }
        self.axes = axes
    }

    /// Reads `dp=2,tp=4`.
    public init(parsing text: String) throws(TensorFileError) {
        var axes: [Axis] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false)
            guard sides.count == 2, sides[1].utf8.allSatisfy({ 0x30...0x39 ~= $0 }), let size = Int(sides[1])
            else {
                throw TensorFileError(
                    .invalidLayout, "A mesh is written as dp=2,tp=4, and \(text.quoted) is not.")
            }
            axes.append(Axis(name: String(sides[0]), size: size))
        }
        try self.init(axes)
    }

    private static func isName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                0x30...0x39 ~= $0 || 0x41...0x5A ~= $0 || 0x61...0x7A ~= $0 || $0 == UInt8(ascii: "_")
            }
    }

    /// The layout of a tensor on this mesh.
    ///
    /// - Parameters:
    ///   - cuts: for each axis of the tensor the names of the mesh's axes that cut it, the coarsest first. A name that the mesh
    ///     has not cuts nothing: so the map of a tensor serves for every mesh.
    ///   - ranks: the ranks in the order of the mesh; from 0 on if nil.
    /// - Throws: `TensorFileError` where a name cuts twice, or there are not as many ranks as devices.
    public func layout(cuts: [[String]], ranks: [Int]? = nil) throws(TensorFileError) -> MindFormersLayout {
        let tensorMap = cuts.map { names -> MindFormersLayout.Cut in
            let places = names.compactMap { name in
                axes.lastIndex { $0.name.hasSameBytes(as: name) }.map { axes.count - 1 - $0 }
            }
            return places.isEmpty ? .none : places.count == 1 ? .axis(places[0]) : .axes(places)
        }
        return try MindFormersLayout(
            deviceMatrix: axes.map(\.size), tensorMap: tensorMap, axisNames: axes.map(\.name),
            ranks: ranks ?? Array(0..<rankCount))
    }
}

extension MindFormersLayout {
    /// For each axis of the tensor the names of the axes that cut it, the coarsest first: what `DeviceMesh.layout` takes.
    public var cuts: [[String]] {
        tensorMap.map { $0.axes.map { axisNames[axisNames.count - 1 - $0] } }
    }
}
