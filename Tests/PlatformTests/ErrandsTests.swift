import Platform
import Testing

@Suite(.timeLimit(.minutes(5))) struct ErrandsTests {
    struct Failure: Error {}

    @Test func aCallIsMadeOnceByAnotherThread() throws {
        let errands = Errands()
        let count = Monitor(0)
        try WorkerPool.shared.run(3) { index in
            if index > 0 { return errands.serve() }
            defer { errands.close() }
            for expected in 1...1000 {
                let errand = errands.send { count.change { $0 += 1 } }
                if expected.isMultiple(of: 2) { let _: Void = count.wait { $0 == expected ? () : nil } }
                try errand.wait()
                try errand.wait()
                #expect(count.change { $0 } == expected)
            }
        }
    }

    @Test func whoWaitsMakesTheCallWhereNobodyElseDoes() throws {
        let errands = Errands()
        let count = Monitor(0)
        let before = errands.send { count.change { $0 += 1 } }
        errands.close()
        let after = errands.send { count.change { $0 += 1 } }
        #expect(count.change { $0 } == 0)
        try before.wait()
        try after.wait()
        #expect(count.change { $0 } == 2)
        errands.serve()
    }

    @Test func whatACallThrowsIsThrownToWhoWaits() throws {
        let errands = Errands()
        try WorkerPool.shared.run(2) { index in
            if index > 0 { return errands.serve() }
            defer { errands.close() }
            let errand = errands.send { throw Failure() }
            #expect(throws: Failure.self) { try errand.wait() }
        }
    }
}
