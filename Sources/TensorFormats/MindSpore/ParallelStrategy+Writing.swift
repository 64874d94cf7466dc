extension ParallelStrategy {
    /// The file of these parameters, as MindSpore writes it for each rank of a stage.
    public func serialized() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendField(1, UInt64(stage))
        // Of operators nothing is known here. MindSpore merges no file without one, as it takes the stage from there.
        var strategies: [UInt8] = []
        strategies.appendField(1, UInt64(stage))
        var node: [UInt8] = []
        node.appendField(1, Array("Parameters".utf8))
        node.appendField(2, strategies)
        bytes.appendField(2, node)
        for parameter in parameters {
            var item: [UInt8] = []
            item.appendField(1, Array(parameter.name.utf8))
            item.appendField(2, parameter.layout.serialized())
            bytes.appendField(3, item)
        }
        return bytes
    }
}

extension ParallelStrategy.Layout {
    fileprivate func serialized() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendField(1, .list(deviceMatrix.map { UInt64($0) }))
        // One list where no dimension is split along several axes.
        if tensorMap.allSatisfy({ $0.count == 1 }) {
            bytes.appendField(2, .list(tensorMap.map { UInt64(bitPattern: Int64($0[0])) }))
        } else {
            // An empty one in front, so that a list of axes is never taken for one of dimensions.
            bytes.appendField(2, [UInt8]())
            for axes in tensorMap { bytes.appendField(2, .list(axes.map { UInt64(bitPattern: Int64($0)) })) }
        }
        bytes.appendField(3, .list(splitShape.map { UInt64(bitPattern: $0) }))
        bytes.appendField(4, .list(indicesOffset.map { UInt64(bitPattern: $0) }))
        for (number, value) in [(5, field), (6, optimizerShardStep), (7, optimizerShardSize)] {
            bytes.appendField(number, UInt64(bitPattern: Int64(value)))
        }
        return bytes
    }
}

extension [UInt8] {
    /// A message with one repeated number.
    fileprivate static func list(_ numbers: [UInt64]) -> [UInt8] {
        numbers.reduce(into: []) { $0.appendField(1, $1) }
    }

    fileprivate mutating func appendField(_ number: Int, _ value: UInt64) {
        appendVarint(UInt64(number << 3))
        appendVarint(value)
    }

    fileprivate mutating func appendField(_ number: Int, _ bytes: [UInt8]) {
        appendVarint(UInt64(number << 3 | 2))
        appendVarint(UInt64(bytes.count))
        self += bytes
    }

    private mutating func appendVarint(_ value: UInt64) {
        var rest = value
        while rest > 0x7F {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
