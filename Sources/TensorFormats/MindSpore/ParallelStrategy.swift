/// How MindSpore spread parameters over devices: the file `ckpt_strategy_rank_N.ckpt` of one rank, which holds no
/// tensors. (mindspore, `node_strategy.proto`, `ParallelStrategyMap`)
public struct ParallelStrategy: Sendable, Equatable {
    /// How one parameter lies on the devices.
    public struct Layout: Sendable, Equatable {
        /// Devices along each axis of their mesh.
        public var deviceMatrix: [UInt32] = []
        /// For each dimension of the parameter the axes of the mesh that split it, the first one major, counted from
        /// the last axis as 0; -1 where nothing does.
        public var tensorMap: [[Int32]] = []
        /// The shape of one device's slice.
        public var splitShape: [Int64] = []
        public var indicesOffset: [Int64] = []
        public var field: Int32 = 0
        /// Where the optimizer splits slices once more: the distance between the ranks that share one.
        public var optimizerShardStep: Int32 = 0
        /// How many ranks share it; 0 or less where it is not split.
        public var optimizerShardSize: Int32 = 0

        public init() {}
    }

    public struct Parameter: Sendable, Equatable {
        public var name: String
        public var layout: Layout

        public init(name: String, layout: Layout) {
            self.name = name
            self.layout = layout
        }
    }

    /// The pipeline stage of the rank.
    public let stage: UInt32
    /// In the order of the file.
    public let parameters: [Parameter]

    /// Bytes of a parameter's name, and numbers in one list.
    private static let (maximumNameLength, maximumCount): (UInt64, Int) = (4096, 4096)

    public init(stage: UInt32, parameters: [Parameter]) {
        self.stage = stage
        self.parameters = parameters
    }

    /// - Parameter bytes: the whole file.
    /// - Throws: `TensorFileError` where they are no such file.
    public init(parsing bytes: [UInt8]) throws(TensorFileError) {
        var (stage, parameters): (UInt32?, [Parameter]) = (nil, [])
        do {
            var cursor = FileCursor(bytes)
            try cursor.message(0..<UInt64(bytes.count)) { cursor, number, field in
                switch (number, field) {
                case (1, .varint(let number)): stage = UInt32(truncatingIfNeeded: number)
                // The strategies of operators, which say nothing of parameters.
                case (2, .bytes): break
                case (3, .bytes(let range)): parameters.append(try Self.parameter(&cursor, range))
                default: throw FileCursor.invalid
                }
            }
        } catch let error as TensorFileError {
            throw error
        } catch {
            preconditionFailure("bytes in memory can be read")
        }
        guard let stage else { throw FileCursor.invalid }
        self.stage = stage
        self.parameters = parameters
    }

    private static func parameter(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> Parameter {
        var (name, layout): (String?, Layout?) = (nil, nil)
        try cursor.message(range) { cursor, number, field in
            switch (number, field) {
            case (1, _): name = try cursor.text(field, maximumLength: maximumNameLength)
            case (2, .bytes(let range)): layout = try Self.layout(&cursor, range)
            default: throw FileCursor.invalid
            }
        }
        guard let name, let layout else { throw FileCursor.invalid }
        return Parameter(name: name, layout: layout)
    }

    private static func layout(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> Layout {
        var lists: [UInt64: [[UInt64]]] = [:]
        var numbers: [UInt64: Int32] = [:]
        try cursor.message(range) { cursor, number, field in
            switch (number, field) {
            case (1...4, .bytes(let range)): lists[number, default: []].append(try list(&cursor, range))
            case (5...7, .varint(let value)): numbers[number] = Int32(truncatingIfNeeded: value)
            default: throw FileCursor.invalid
            }
        }
        guard let deviceMatrix = lists[1]?.first, let maps = lists[2], let shape = lists[3]?.first,
            let field = numbers[5], let step = numbers[6], let size = numbers[7]
        else { throw FileCursor.invalid }
        var layout = Layout()
        layout.deviceMatrix = deviceMatrix.map { UInt32(truncatingIfNeeded: $0) }
        // One list has an axis for each dimension; several have the axes of one dimension each.
        let axes = maps.map { $0.map { Int32(truncatingIfNeeded: $0) } }
        layout.tensorMap = axes.count == 1 ? axes[0].map { [$0] } : axes.filter { !$0.isEmpty }
        layout.splitShape = shape.map { Int64(bitPattern: $0) }
        layout.indicesOffset = (lists[4]?.first ?? []).map { Int64(bitPattern: $0) }
        layout.field = field
        layout.optimizerShardStep = step
        layout.optimizerShardSize = size
        return layout
    }

    /// A message with one repeated number.
    private static func list(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> [UInt64] {
        var numbers: [UInt64] = []
        try cursor.message(range) { cursor, number, field in
            guard number == 1 else { throw FileCursor.invalid }
            try cursor.append(field, to: &numbers, maximumCount: maximumCount)
        }
        return numbers
    }
}
