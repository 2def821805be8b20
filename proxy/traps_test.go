package proxy_test

// The ten traps of gateways, and the tests that hold that this one is in none.
//
//  1. Upgrades. Unasked or other protocols leave no descriptor behind:
//     TestUnaskedUpgradesKeepNothing, TestUpgradeMismatch. Octets sent with the
//     handshake arrive: TestUpgradeEarlyOctets. Ends that are lost without a word:
//     TestUpgradeIdle. Half-closes: TestUpgradeHalfClose, over HTTP/2
//     TestWebSocketOverHTTP2Ends. A refused or failed upgrade leaves a connection
//     that works: TestUpgradeRefused, TestWebSocketOverHTTP2Refused.
//  2. Desynchronised requests: TestAmbiguousRequestsEnd, TestBodiesEndWhereTheyEnd,
//     TestBrokenBodyIsTheClientsFault, TestPipelining, TestOddQueries,
//     TestTargetsAreNotRewritten, TestRefusedOverHTTP2, and the fuzzing in http1.
//     Floods over HTTP/2: TestFloodsHarmNobody. Heads that do not end: TestSlowHeads.
//     Answers that get out of step: TestMisbehavingEndpoints, TestStreamsThatAreReset,
//     TestConnectionsAreUsedAgain.
//  3. Spoofed fields: TestSpoofedHeaders over every way in, TestRequestHeaders for
//     every spelling.
//  4. Authorities: TestAuthority, TestHostWithUserinfo, TestCoalescedConnection.
//  5. Clients that leave: TestClientsThatLeave leaves nothing behind and blames
//     nobody; TestLeavingIsNoticed within a tenth of a second. TestResetCancels,
//     TestCutUploadsAreCut, TestAbortsAreCarriedBack.
//  6. Addresses that are somebody else's by now: TestReusedAddress,
//     TestDroppedUnregister, TestStrangerFailsItsProbe, TestDeadMembers,
//     TestLateUnregister, TestWatchIsCut, TestCertificatesOfEndpoints, and
//     TestTenantsEndWithTheLife.
//  7. Churn: TestThousandChangesDisturbNobody, TestMetricsLiveAsLongAsTheirClone,
//     TestJournalsEndWithTheLife, TestDirectoryIsBounded; with 20,000 clones and the
//     whole program, TestChurn in cmd/clonegate/e2e.
//  8. Clones that sleep or start say so: TestOutcomes, TestOnlyNavigationsGoOn,
//     TestHoldingPageGoesOn, TestWhoGetsAPage.
//  9. Streams: TestTrailers, TestInterimAnswers, TestContinue, TestEventsArriveAtOnce,
//     TestBodiesAreNotBuffered, TestGRPC, TestH2CStreams. They outlive every time
//     limit and change: TestQuietStreamsStay, TestThousandChangesDisturbNobody. What
//     is cut is visibly cut: TestMisbehavingEndpoints.
// 10. Ways back to production: TestAnswersNameTheClone, TestRequestsNameProduction,
//     TestInterimAnswersNameTheClone, TestCookiesStayWithTheirClone,
//     TestEscapesAreFound, TestEscapesAreCounted, TestEscapesOverEveryWay.
